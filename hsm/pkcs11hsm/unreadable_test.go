package pkcs11hsm_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// TestUnreadableFiles: SoftHSM2 that once could not open its files, as when the process
// has too many open, says so of the token and its objects until it is begun again. Then a
// key is unavailable and not missing, and all is well soon after the files are back.
func TestUnreadableFiles(t *testing.T) {
	r := newRig(t, nil)
	tokens := filepath.Join(filepath.Dir(r.soft.Conf()), "tokens")
	away := tokens + ".away"
	if err := os.Rename(tokens, away); err != nil {
		t.Fatal(err)
	}
	for name, operation := range r.operations() {
		if name == "Random" { // needs no file
			continue
		}
		if err := operation(t.Context()); !errors.Is(err, hsm.ErrUnavailable) || errors.Is(err, hsm.ErrKeyNotFound) {
			t.Errorf("%s: %v, want %v", name, err, hsm.ErrUnavailable)
		}
	}
	if err := os.Rename(away, tokens); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for err := r.token.Check(t.Context()); err != nil; err = r.token.Check(t.Context()) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("30 s after the files are back: %v", err)
		}
	}
	for name, operation := range r.operations() {
		if err := operation(t.Context()); err != nil {
			t.Errorf("%s after the files are back: %v", name, err)
		}
	}
}
