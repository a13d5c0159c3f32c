package hsmtest_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

var errInjected = errors.New("injected")

func newFaults(t *testing.T) (*hsmtest.Memory, *hsmtest.Faults) {
	t.Helper()
	memory := hsmtest.NewMemory(hsmtest.MemoryConfig{})
	f := hsmtest.NewFaults(memory.Open())
	t.Cleanup(func() { _ = f.Close() })
	return memory, f
}

func TestFaultsFailBefore(t *testing.T) {
	memory, f := newFaults(t)
	f.FailBefore(hsmtest.MethodGenerateKey, errInjected, 2)
	uids := []hsm.UID{{1}, {2}, {3}}
	var errs []error
	for _, uid := range uids {
		_, err := f.GenerateKey(t.Context(), uid, "", hsm.AES256Blocks)
		errs = append(errs, err)
	}
	if errs[0] != nil || !errors.Is(errs[1], errInjected) || errs[2] != nil {
		t.Fatalf("only call 2 must fail: %v", errs)
	}
	if _, err := memory.Open().Key(t.Context(), uids[1]); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Fatalf("a call that failed before applying left an object: %v", err)
	}
}

func TestFaultsFailAfter(t *testing.T) {
	memory, f := newFaults(t)
	f.FailAfter(hsmtest.MethodGenerateKey, errInjected)
	if _, err := f.GenerateKey(t.Context(), hsm.UID{1}, "", hsm.AES256GCM); !errors.Is(err, errInjected) {
		t.Fatalf("got %v", err)
	}
	if _, err := memory.Open().Key(t.Context(), hsm.UID{1}); err != nil {
		t.Fatalf("the effect is missing: %v", err)
	}
	f.Clear()
	f.FailAfter(hsmtest.MethodSeal, errInjected, 1)
	items := []hsm.SealItem{{Plaintext: []byte("p"), AAD: []byte("a")}}
	if err := f.Seal(t.Context(), hsm.UID{1}, items); !errors.Is(err, errInjected) {
		t.Fatalf("got %v", err)
	}
	if items[0].Sealed != nil || items[0].Nonce != nil {
		t.Fatal("a failed Seal returned a result")
	}
	if err := f.Seal(t.Context(), hsm.UID{1}, items); err != nil || items[0].Sealed == nil {
		t.Fatalf("call 2 must succeed: %v", err)
	}
}

func TestFaultsHoldAndCount(t *testing.T) {
	_, f := newFaults(t)
	if _, err := f.GenerateKey(t.Context(), hsm.UID{1}, "", hsm.AES256Blocks); err != nil {
		t.Fatal(err)
	}
	gate := f.Hold(hsmtest.MethodEncryptBlocks)
	const calls = 3
	done := make(chan error, calls)
	for range calls {
		go func() { done <- f.EncryptBlocks(t.Context(), hsm.UID{1}, make([]byte, 32), make([]byte, 32)) }()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := gate.Await(ctx, calls); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("a held call returned: %v", err)
	default:
	}
	gate.Release()
	for range calls {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n := f.Count(hsmtest.MethodEncryptBlocks); n != calls {
		t.Fatalf("counted %d calls", n)
	}
	last := f.Log()[len(f.Log())-1]
	want := hsmtest.Call{Method: hsmtest.MethodEncryptBlocks, Number: calls, Key: hsm.UID{1}, Size: 32}
	if last != want {
		t.Fatalf("logged %+v, want %+v", last, want)
	}
}

func TestFaultsHook(t *testing.T) {
	_, f := newFaults(t)
	f.Hook(hsmtest.MethodRandom, func(_ context.Context, call hsmtest.Call) error {
		if call.Size > 8 {
			return errInjected
		}
		return nil
	})
	small, large := make([]byte, 8), make([]byte, 16)
	if err := f.Random(t.Context(), small); err != nil || bytes.Equal(small, make([]byte, 8)) {
		t.Fatalf("err %v, bytes %x", err, small)
	}
	if err := f.Random(t.Context(), large); !errors.Is(err, errInjected) || !bytes.Equal(large, make([]byte, 16)) {
		t.Fatalf("err %v, bytes %x", err, large)
	}
}
