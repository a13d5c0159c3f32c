package leanrpc_test

import (
	"sync"
	"testing"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// What comes for a call whose connection is closed meanwhile is not taken for what comes for
// a later call, on another connection, in the same memory.
func TestCloseWhileAnAnswerComes(t *testing.T) {
	certificate, config := certificates(t)
	_, _, other := serve(t)
	for range 20 {
		coming := make(chan struct{})
		address := listenAndServe(t, certificate, func(p *peer) {
			stream := p.request()
			for n := 0; ; n++ {
				if n == 100 {
					close(coming)
				}
				if p.framer.WriteData(stream, false, []byte("?")) != nil {
					return
				}
			}
		})
		conn := dial(t, address, config)
		var callers sync.WaitGroup
		callers.Go(func() {
			if conn.Invoke(t.Context(), "/a.B/C", &kmsv1.EncryptRequest{}, &kmsv1.EncryptResponse{}) == nil {
				t.Error("a call that was not answered succeeded")
			}
			for range 10 {
				answer, err := other.Encrypt(t.Context(), &kmsv1.EncryptRequest{Key: "k"})
				if err != nil || answer.GetKeyVersion() != "k" {
					t.Errorf("a later call: %v, %v", answer, err)
				}
			}
		})
		<-coming
		_ = conn.Close() // whatever became of it
		callers.Wait()
	}
}
