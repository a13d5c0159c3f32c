package softhsmtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// Callers that go away while their batches are in the token cost nothing afterwards:
// what they had begun ends, and goroutines and sessions are back to rest.
func TestDisconnectedCallersLeaveNothingBehind(t *testing.T) {
	softhsmtest.Require(t)
	token := softhsmtest.New(t).Open(t)
	faults := hsmtest.NewFaults(token)
	f := overTheWire(t, coalesce.NewToken(faults, coalesce.Config{}))
	namespace, err := kms.NewNamespaceName(kms.DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	key, err := kms.NewKeyName(namespace, "orders")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Admin.API.CreateKey(t.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: key}); err != nil {
		t.Fatal(err)
	}
	const size = 1024
	keys, err := f.Admin.API.GenerateDataKeys(t.Context(), kms.Principal{}, &kms.GenerateDataKeysRequest{Key: key, Count: size})
	if err != nil {
		t.Fatal(err)
	}
	request := &kms.UnwrapDataKeysRequest{Parent: namespace, Items: make([]kms.DataKeyItem, size)}
	for i := range keys {
		request.Items[i].Wrapped = keys[i].Wrapped
	}
	rest := goleak.IgnoreCurrent()

	gate := faults.Hold(hsmtest.MethodEncryptBlocks)
	ctx, leave := context.WithCancel(t.Context())
	const callers = 8
	gone := make(chan error, callers)
	for range callers {
		go func() {
			_, err := f.Admin.API.UnwrapDataKeys(ctx, kms.Principal{}, request)
			gone <- err
		}()
	}
	if err := gate.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	leave()
	for range callers {
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left was told %v", err)
		}
	}
	gate.Release()

	// Goroutines that there were before may be at work in the token, such as the one that
	// writes its anchor: they give their session back, too.
	atRest := func() error {
		if n := token.SessionsInUse(); n != 0 {
			return fmt.Errorf("%d sessions are in use", n)
		}
		return goleak.Find(rest) // which waits a little itself
	}
	deadline := time.Now().Add(30 * time.Second)
	for err := atRest(); err != nil; err = atRest() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	results, err := f.Admin.API.UnwrapDataKeys(t.Context(), kms.Principal{}, request)
	if err != nil {
		t.Fatal(err)
	}
	for i := range results {
		if results[i].Err != nil || string(results[i].DataKey) != string(keys[i].DataKey) {
			t.Fatalf("afterwards item %d: %v", i, results[i].Err)
		}
	}
}
