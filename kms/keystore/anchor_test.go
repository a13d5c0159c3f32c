package keystore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
)

// anchorOf returns an anchor of the store in a directory of its own.
func anchorOf(t *testing.T, store *keystore.Store) (*keystore.FileAnchor, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "anchor.json")
	return keystore.OpenFileAnchor(path, store), path
}

func readAnchor(t *testing.T, anchor *keystore.FileAnchor) kms.Head {
	t.Helper()
	head, ok, err := anchor.Read(t.Context())
	if err != nil || !ok {
		t.Fatalf("Read: %v, %v", ok, err)
	}
	return head
}

func TestFileAnchor(t *testing.T) {
	_, store := openStore(t, storePath(t))
	anchor, path := anchorOf(t, store)
	if _, ok, err := anchor.Read(t.Context()); ok || err != nil {
		t.Errorf("Read before Note: %v, %v", ok, err)
	}
	if !strings.Contains(anchor.Name(), path) {
		t.Errorf("the anchor is named %q", anchor.Name())
	}
	first, err := put(t, store, &kms.Change{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := put(t, store, &kms.Change{})
	if err != nil {
		t.Fatal(err)
	}
	for _, head := range []kms.Head{{}, second, first, second} { // back again too: it is the caller who compares
		if err := anchor.Note(t.Context(), head); err != nil {
			t.Fatalf("Note: %v", err)
		}
		if got := readAnchor(t, keystore.OpenFileAnchor(path, store)); got != head {
			t.Errorf("Read: %v, want %v", got, head)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
}

// TestFileAnchorAfterReseal holds that what was noted under an earlier seal key can be
// read, and that what is noted then is under the new one.
func TestFileAnchorAfterReseal(t *testing.T) {
	_, store := openStore(t, storePath(t))
	anchor, path := anchorOf(t, store)
	before, err := put(t, store, &kms.Change{})
	if err != nil {
		t.Fatal(err)
	}
	if err := anchor.Note(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	uid := randomUID(t)
	after, err := store.Reseal(t.Context(), uid)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAnchor(t, anchor); got != before {
		t.Errorf("Read after Reseal: %v, want %v", got, before)
	}
	if err := anchor.Note(t.Context(), after); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), uid.String()) || readAnchor(t, anchor) != after {
		t.Errorf("after Reseal the file holds %s, %v", text, err)
	}
}

func TestFileAnchorTampered(t *testing.T) {
	_, store := openStore(t, storePath(t))
	anchor, path := anchorOf(t, store)
	head, err := put(t, store, &kms.Change{})
	if err != nil {
		t.Fatal(err)
	}
	if err := anchor.Note(t.Context(), head); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edits := map[string]string{
		"revision":  strings.Replace(string(good), `"revision":1`, `"revision":2`, 1),
		"head seal": strings.Replace(string(good), fmt.Sprintf("%x", head.Seal), strings.Repeat("00", 32), 1),
		"store":     strings.Replace(string(good), store.ID(), "0123456789abcdef", 1),
		"seal key":  strings.Replace(string(good), store.SealKey().String(), "02000000000000000000000000000000", 1),
		"version":   strings.Replace(string(good), `"version":1`, `"version":2`, 1),
		"more":      string(good) + "{}",
		"empty":     "",
		"text":      "revision 1\n",
		"null":      "null",
	}
	for what, text := range edits {
		if text == string(good) {
			t.Fatalf("%s is not edited", what)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, ok, err := anchor.Read(t.Context())
		if ok || !errors.Is(err, kms.ErrTampered) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: Read: %v, %v", what, ok, err)
		}
	}
}

func TestFileAnchorUnwritable(t *testing.T) {
	_, store := openStore(t, storePath(t))
	anchor := keystore.OpenFileAnchor(filepath.Join(t.TempDir(), "none", "anchor.json"), store)
	if err := anchor.Note(t.Context(), kms.Head{}); !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("Note without a directory: %v", err)
	}
}

func TestFileAnchorConcurrently(t *testing.T) {
	_, store := openStore(t, storePath(t))
	anchor, _ := anchorOf(t, store)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 5 {
				if err := anchor.Note(t.Context(), kms.Head{Revision: kms.Revision(i)}); err != nil {
					t.Errorf("Note: %v", err)
				}
				if _, ok, err := anchor.Read(t.Context()); !ok || err != nil {
					t.Errorf("Read: %v, %v", ok, err)
				}
			}
		})
	}
	group.Wait()
}
