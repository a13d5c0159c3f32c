package coalesce_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// TestCloseDrains: what was accepted is served, what comes later refused.
func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxCalls: 1, MaxBytes: 32})
		w.takes(quick)
		var pending []<-chan error
		for _, key := range []hsm.UID{hot, hot, rare, hot} {
			pending = append(pending, w.start(t.Context(), key, 32))
			synctest.Wait()
		}
		begin := time.Now()
		closed := make(chan time.Duration, 3)
		for range cap(closed) {
			go func() {
				if err := w.blocks.Close(); err != nil {
					t.Error(err)
				}
				closed <- time.Since(begin)
			}()
		}
		synctest.Wait()
		if err := w.request(t.Context(), hot, 32); !errors.Is(err, hsm.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		w.succeed(pending...)
		for range cap(closed) {
			if took := <-closed; took != 4*quick {
				t.Errorf("Close took %v", took)
			}
		}
		if err := w.blocks.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestCloseTokenAfterwards: the token is closed when the last call has ended.
func TestCloseTokenAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := hsmtest.NewFaults(hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open())
		token := coalesce.NewToken(faults, coalesce.Config{})
		if _, err := token.GenerateKey(t.Context(), hot, "", hsm.AES256Blocks); err != nil {
			t.Fatal(err)
		}
		gate := faults.Hold(hsmtest.MethodEncryptBlocks)
		done := make(chan error, 2)
		for range cap(done) {
			go func() { done <- token.EncryptBlocks(t.Context(), hot, make([]byte, 16), make([]byte, 16)) }()
		}
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- token.Close() }()
		synctest.Wait()
		if err := token.Check(t.Context()); err != nil {
			t.Errorf("closed under calls in flight: %v", err)
		}
		gate.Release()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if err := token.Check(t.Context()); !errors.Is(err, hsm.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
