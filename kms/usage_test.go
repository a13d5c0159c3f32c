package kms_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

func usageText(v *kms.VersionInfo) string {
	text := ""
	for _, c := range v.Usage {
		text += fmt.Sprintf("%s %d;", c.Action, c.Count)
	}
	return text
}

// Uses are counted by version and action, items by items, and only what was served; they
// show at once, and survive a restart.
func TestUsageIsCounted(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) { c.Now, c.UsageFlush = clock.time, time.Hour })
	name := w.create("orders", kms.ProfileDerived)
	v1, v2 := name.Version(1), name.Version(2)
	if got := w.version(v1); len(got.Usage) != 0 {
		t.Fatalf("usage of a new version: %s", usageText(got))
	}
	keys, err := w.service.GenerateDataKeys(t.Context(), admin, &kms.GenerateDataKeysRequest{Key: name, Count: 5})
	if err != nil {
		t.Fatal(err)
	}
	ciphertext := w.mustEncrypt(name, "x")
	if _, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Minute)
	items := make([]kms.DataKeyItem, len(keys))
	for i := range keys {
		items[i].Wrapped = keys[i].Wrapped
	}
	items[1].Wrapped = append([]byte(nil), items[1].Wrapped...)
	items[1].Wrapped[60] ^= 1
	if _, err := w.service.UnwrapDataKeys(t.Context(), admin, &kms.UnwrapDataKeysRequest{Parent: name.Namespace(), Items: items}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.UnwrapDataKeys(t.Context(), admin,
		&kms.UnwrapDataKeysRequest{Parent: name.Namespace(), Items: items[2:4], RewrapToPrimary: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.RewrapDataKeys(t.Context(), admin, &kms.RewrapDataKeysRequest{Parent: name.Namespace(), Items: items}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.ReEncrypt(t.Context(), admin, &kms.ReEncryptRequest{Parent: name.Namespace(), Ciphertext: ciphertext}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.decrypt(name, ciphertext); err != nil {
		t.Fatal(err)
	}
	want1 := "Decrypt 1;Encrypt 1;GenerateDataKeys 5;ReEncryptFrom 1;RewrapDataKeys 4;UnwrapDataKeys 6;"
	want2 := "ReEncryptTo 1;RewrapDataKeys 6;"
	check := func(when string) {
		t.Helper()
		list, err := w.service.ListKeyVersions(t.Context(), admin, name, kms.Page{})
		if err != nil {
			t.Fatal(err)
		}
		if got := usageText(list.Versions[0]); got != want1 {
			t.Fatalf("%s version 1: %s", when, got)
		}
		if got := usageText(w.version(v2)); got != want2 {
			t.Fatalf("%s version 2: %s", when, got)
		}
		for _, c := range list.Versions[0].Usage {
			used := clock.time()
			if c.Action == kms.ActionGenerateDataKey || c.Action == kms.ActionEncrypt {
				used = used.Add(-time.Minute)
			}
			if !c.LastUsed.Equal(used) {
				t.Fatalf("%s: %s was last used %v", when, c.Action, c.LastUsed)
			}
		}
	}
	check("at once")
	w.restart()
	check("after a restart")
	_, err = w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: v1, Reason: "r"})
	var e *kms.Error
	if !errors.As(err, &e) || !errors.Is(err, kms.ErrDataLoss) || e.Metadata["use_count"] != "18" ||
		e.Metadata["last_use_time"] != "2030-01-01T00:01:00Z" {
		t.Fatalf("the refusal: %v, %v", err, e.Metadata)
	}
}

// failingUsage fails to write usage while it is told to.
type failingUsage struct {
	kms.Store
	fail  chan bool // what the next write does
	wrote chan int
}

func (s *failingUsage) AddUsage(ctx context.Context, counts []kms.UsageCount) error {
	select {
	case fail := <-s.fail:
		s.wrote <- len(counts)
		if fail {
			return &kms.Error{Sentinel: kms.ErrStoreUnavailable}
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.Store.AddUsage(ctx, counts)
}

// What could not be written is counted, and written the next time.
func TestUsageThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	store := &failingUsage{fail: make(chan bool), wrote: make(chan int, 10)}
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		store.Store = c.Store
		c.Store, c.UsageFlush = store, time.Millisecond
	})
	name := w.create("orders", kms.ProfileDerived)
	w.mustEncrypt(name, "x")
	store.fail <- true
	if n := <-store.wrote; n != 1 {
		t.Fatalf("%d counts", n)
	}
	w.mustEncrypt(name, "x")
	store.fail <- false
	if n := <-store.wrote; n != 1 {
		t.Fatalf("%d counts", n)
	}
	w.await("the statistics", func() bool {
		go func() { // what is left for another write, if anything
			select {
			case store.fail <- false:
			case <-time.After(50 * time.Millisecond):
			}
		}()
		return usageText(w.version(name.Version(1))) == "Encrypt 2;"
	})
}

// Uses by other replicas show when they were written.
func TestUsageOfReplicas(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, func(c *kms.Config) { c.UsageFlush = time.Millisecond })
	second := first.newReplica()
	name := first.create("orders", kms.ProfileDerived)
	for range 3 {
		first.mustEncrypt(name, "x")
		second.mustEncrypt(name, "x")
	}
	for _, w := range []*world{first, second} {
		w.await("the statistics", func() bool { return usageText(w.version(name.Version(1))) == "Encrypt 6;" })
	}
}
