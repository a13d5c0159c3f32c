package kms_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// heldUp has n keys being made that the token does not make until letGo is called. It returns
// when the first is at the token and, if more than can wait were asked for, the rest is refused.
func (w *world) heldUp(n int) (letGo func()) {
	w.t.Helper()
	const atMost = 64 // of constructions
	gate := w.faults.Hold(hsmtest.MethodGenerateKey)
	ctx, goAway := context.WithCancel(w.t.Context())
	var asking sync.WaitGroup
	refused := make(chan error, n)
	for i := range n {
		asking.Go(func() {
			if _, err := w.service.CreateKey(ctx, admin, &kms.CreateKeyRequest{Name: keyName(w.t, fmt.Sprintf("x%d", i))}); err != nil {
				refused <- err
			}
		})
	}
	if err := gate.Await(w.t.Context(), 1); err != nil {
		w.t.Fatal(err)
	}
	for range n - atMost {
		wantError(w.t, <-refused, kms.ErrOverloaded, "one key too many")
	}
	letGo = sync.OnceFunc(func() {
		goAway()
		gate.Release()
		asking.Wait()
	})
	w.t.Cleanup(letGo)
	return letGo
}

// While as much is made as may be, a job that is to take the place of one whose time has passed
// is refused at once, whether or not somebody waits to end that one already. Nothing is begun.
func TestNoExpiredJobIsWaitedForWhenOverloaded(t *testing.T) {
	for name, errand := range map[string]bool{"the errand waits": true, "the errand has not come by": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, timed func(*kms.Config)) {
				ahead := &clock{now: time.Now()}
				w := newSharedWorld(t, func(c *kms.Config) {
					if timed(c); !errand {
						c.Now = ahead.time
					}
				})
				old := w.job("nightly") // for an hour
				passed := time.After(time.Hour)
				if errand {
					<-time.After(59 * time.Minute)
				}
				letGo := w.heldUp(65)
				if errand {
					<-passed
					<-time.After(time.Second)
				} else {
					ahead.advance(time.Hour)
				}
				for range 2 {
					began := time.Now()
					_, err := w.createJob(&kms.CreateImportJobRequest{Name: old.Name})
					if took := time.Since(began); took != 0 {
						t.Errorf("the answer took %v", took)
					}
					wantError(t, err, kms.ErrOverloaded, "the next job")
				}
				if list := w.jobs(); len(list) != 1 || list[0].UID != old.UID || list[0].State != kms.ImportJobExpired {
					t.Errorf("the jobs: %+v", list)
				}
				letGo()
				made, err := w.createJob(&kms.CreateImportJobRequest{Name: old.Name})
				if err != nil || made.UID == old.UID || made.State != kms.ImportJobActive {
					t.Errorf("the job afterwards: %+v, %v", made, err)
				}
			})
		})
	}
}

// A job that is to take the place of one whose time has passed waits for its turn as long as
// its caller does: the token may take minutes for each of the keys before.
func TestAReplacementWaitsForItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, timed func(*kms.Config)) {
		ahead := &clock{now: time.Now()}
		w := newSharedWorld(t, func(c *kms.Config) {
			timed(c)
			c.Now = ahead.time
		})
		for n, id := range []string{"beside", "behind"} {
			old := w.job(id)
			letGo := w.heldUp(3 + n)
			ahead.advance(time.Hour)
			done := make(chan error, 1)
			go func() { done <- second(w.createJob(&kms.CreateImportJobRequest{Name: old.Name})) }()
			select {
			case err := <-done:
				t.Fatalf("%s: the call ended before its turn: %v", id, err)
			case <-time.After(2 * time.Minute):
			}
			letGo()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", id, err)
			}
			if made := w.getJob(old.Name); made.UID == old.UID || made.State != kms.ImportJobActive {
				t.Errorf("%s: the job: %+v", id, made)
			}
			w.faults.Clear()
		}
	})
}

// The same on a store that is one process's alone: the token itself destroys nothing while it
// makes a key.
func TestAReplacementWaitsForTheToken(t *testing.T) {
	bubble(t, func(t *testing.T, timed func(*kms.Config)) {
		ahead := &clock{now: time.Now()}
		w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
			timed(c)
			c.Now = ahead.time
		})
		old := w.job("nightly")
		letGo := w.heldUp(1)
		made := make(chan struct{})
		w.faults.Hook(hsmtest.MethodDestroyKey, func(ctx context.Context, _ hsmtest.Call) error {
			select {
			case <-made:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		ahead.advance(time.Hour)
		done := make(chan error, 1)
		go func() { done <- second(w.createJob(&kms.CreateImportJobRequest{Name: old.Name})) }()
		select {
		case err := <-done:
			t.Errorf("the call ended before its turn: %v", err)
			done <- err
		case <-time.After(2 * time.Minute):
		}
		close(made)
		letGo()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if job := w.getJob(old.Name); job.UID == old.UID || job.State != kms.ImportJobActive {
			t.Errorf("the job: %+v", job)
		}
	})
}
