package leanrpc_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/bench/leanrpc"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func TestConcurrentCalls(t *testing.T) {
	_, _, stub := serve(t)
	var callers sync.WaitGroup
	for caller := range 32 {
		callers.Go(func() {
			for n := range 100 {
				key, plaintext := fmt.Sprint(caller, "/", n), bytes.Repeat([]byte{byte(caller), byte(n)}, caller*n)
				answer, err := stub.Encrypt(t.Context(), &kmsv1.EncryptRequest{Key: key, Plaintext: plaintext})
				if err != nil {
					t.Error(err)
					return
				}
				if answer.GetKeyVersion() != key || !bytes.Equal(answer.GetCiphertext(), plaintext) {
					t.Errorf("the answer to %s is %s and %d bytes", key, answer.GetKeyVersion(), len(answer.GetCiphertext()))
				}
			}
		})
	}
	callers.Wait()
}

// The peer may send 16 MiB before it must hear that they were read.
func TestLongAnswers(t *testing.T) {
	_, _, stub := serve(t)
	for range 12 {
		answer, err := stub.Encrypt(t.Context(), &kmsv1.EncryptRequest{Key: "large"})
		if err != nil {
			t.Fatal(err)
		}
		if len(answer.GetCiphertext()) != 3<<20 {
			t.Fatalf("%d bytes came back", len(answer.GetCiphertext()))
		}
	}
}

func TestPeersStatus(t *testing.T) {
	_, _, stub := serve(t)
	_, err := stub.Sign(t.Context(), &kmsv1.SignRequest{})
	if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != refusal {
		t.Errorf("got %v", err)
	}
	_, err = stub.Verify(t.Context(), &kmsv1.VerifyRequest{}) // answered by trailers alone
	if code := status.Code(err); code != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}

func TestEndedContext(t *testing.T) {
	_, s, stub := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	go func() {
		theirs := <-s.waiting
		if deadline, ok := theirs.Deadline(); !ok || time.Until(deadline) < 59*time.Minute || time.Until(deadline) > time.Hour+time.Second {
			t.Errorf("the deadline that the peer got is %v, %v", deadline, ok)
		}
		cancel()
		<-theirs.Done() // or the test does not end
		s.waiting <- theirs
	}()
	_, err := stub.Decrypt(ctx, &kmsv1.DecryptRequest{})
	if code := status.Code(err); code != codes.Canceled {
		t.Errorf("got %v", err)
	}
	<-s.waiting
	if _, err := stub.Encrypt(ctx, &kmsv1.EncryptRequest{}); status.Code(err) != codes.Canceled {
		t.Errorf("a call that was cancelled before it began: %v", err)
	}
	if _, err := stub.Encrypt(t.Context(), &kmsv1.EncryptRequest{}); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// A call whose deadline passes has failed of that, whoever notices first.
func TestDeadlineThatPasses(t *testing.T) {
	_, s, stub := serve(t)
	go func() {
		for {
			select {
			case <-s.waiting:
			case <-t.Context().Done():
				return
			}
		}
	}()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for n := range 40 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*100*time.Microsecond)
				_, err := stub.Decrypt(ctx, &kmsv1.DecryptRequest{})
				cancel()
				if code := status.Code(err); code != codes.DeadlineExceeded {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	callers.Wait()
}

// A deadline of days is more milliseconds than fit into a grpc-timeout.
func TestDistantDeadline(t *testing.T) {
	_, s, stub := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*24*time.Hour)
	go func() {
		select {
		case theirs := <-s.waiting:
			deadline, ok := theirs.Deadline()
			if left := time.Until(deadline); !ok || left < 99*24*time.Hour || left > 100*24*time.Hour+time.Minute {
				t.Errorf("the deadline that the peer got is %v, %v", deadline, ok)
			}
		case <-ctx.Done():
		}
		cancel()
	}()
	_, err := stub.Decrypt(ctx, &kmsv1.DecryptRequest{})
	if code := status.Code(err); code != codes.Canceled {
		t.Errorf("got %v", err)
	}
	cancel()
}

func TestLostConnection(t *testing.T) {
	server, s, stub := serve(t)
	go func() {
		<-s.waiting
		server.Stop()
	}()
	for range 2 {
		if _, err := stub.Decrypt(t.Context(), &kmsv1.DecryptRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	}
}

func TestClose(t *testing.T) {
	certificate, config := certificates(t)
	address := listenAndServe(t, certificate, func(p *peer) { p.request() })
	conn := dial(t, address, config)
	failed := make(chan error)
	go func() {
		failed <- conn.Invoke(t.Context(), "/a.B/C", &kmsv1.EncryptRequest{}, &kmsv1.EncryptResponse{})
	}()
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), leanrpc.ErrClosed.Error()) {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	_, _, stub := serve(t)
	longest := &kmsv1.EncryptRequest{Plaintext: make([]byte, leanrpc.MaxRequest)}
	longest.Plaintext = longest.Plaintext[:2*leanrpc.MaxRequest-proto.Size(longest)]
	if proto.Size(longest) != leanrpc.MaxRequest {
		t.Fatalf("%d bytes", proto.Size(longest))
	}
	if _, err := stub.Encrypt(t.Context(), longest); err != nil {
		t.Errorf("the longest request: %v", err)
	}
	longest.Key = "k"
	if _, err := stub.Encrypt(t.Context(), longest); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request too long: %v", err)
	}
	_, config := certificates(t)
	if _, err := leanrpc.Dial(t.Context(), "127.0.0.1:0", config); err == nil {
		t.Error("connected to nothing")
	}
	var conn leanrpc.Conn
	if _, err := conn.NewStream(t.Context(), nil, ""); status.Code(err) != codes.Unimplemented {
		t.Errorf("a stream: %v", err)
	}
	if err := conn.Invoke(t.Context(), "", 1, nil); status.Code(err) != codes.Internal {
		t.Errorf("no messages: %v", err)
	}
}
