package kms_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// Callers that ask for keys and import jobs and go away leave no more begun than is worked
// on at once, and of more than can wait the rest is refused before anything is begun.
func TestConstructionsAreBounded(t *testing.T) {
	t.Parallel()
	const atWork, atMost, calls = 4, 64, 80
	w := newSharedWorld(t, nil)
	gate := w.faults.Hold(hsmtest.MethodGenerateKey)
	ctx, goAway := context.WithCancel(t.Context())
	var (
		asking sync.WaitGroup
		errs   = make(chan error, calls)
	)
	for i := range calls {
		asking.Go(func() {
			var err error
			if id := fmt.Sprintf("x%d", i); i%2 == 0 {
				_, err = w.service.CreateKey(ctx, admin, &kms.CreateKeyRequest{Name: keyName(t, id)})
			} else {
				name, parseErr := kms.NewImportJobName(keyName(t, id).Namespace(), id)
				if parseErr != nil {
					t.Error(parseErr)
				}
				_, err = w.service.CreateImportJob(ctx, admin, &kms.CreateImportJobRequest{Name: name})
			}
			errs <- err
		})
	}
	if err := gate.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for range calls - atMost {
		if err := <-errs; !errors.Is(err, kms.ErrOverloaded) {
			t.Errorf("a call beyond those that can wait: %v", err)
		}
	}
	goAway()
	for range atMost - atWork {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("a call that waited and was cancelled: %v", err)
		}
	}
	gate.Release()
	asking.Wait()
	if _, err := w.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: keyName(t, "orders")}); err != nil {
		t.Fatal(err)
	}
	keys, err := w.service.ListKeys(t.Context(), admin, keyName(t, "orders").Namespace(), kms.Page{})
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := w.service.ListImportJobs(t.Context(), admin, keyName(t, "orders").Namespace(), kms.Page{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(keys.Keys) + len(jobs.Jobs); n > 1+atWork || n == 0 {
		t.Fatalf("%d keys and %d import jobs were made", len(keys.Keys), len(jobs.Jobs))
	}
}
