package pkcs11hsm_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// Another token of the same label and PIN in the place of the one that was lost is not taken
// for it: in it every key would seem to be destroyed.
func TestAnotherTokenOfTheSameName(t *testing.T) {
	soft := softhsmtest.New(t)
	tokens := filepath.Join(filepath.Dir(soft.Conf()), "tokens")
	own := filepath.Join(tokens, onlyEntry(t, tokens))
	away, other := tokens+".own", tokens+".other"
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(own, away)
	if _, err := pkcs11hsm.InitToken(soft.ModulePath(), soft.Label(), []byte("12345678"), []byte(soft.PIN())); err != nil {
		t.Fatal(err)
	}
	others := filepath.Join(tokens, onlyEntry(t, tokens))
	move(others, other)
	move(away, own)

	r := newRigOn(t, soft, func(c *pkcs11hsm.Config) { c.TokenSerial = "" })
	// SoftHSM2 notices that a token is gone when there is another, or none, in its place.
	move(own, away)
	move(other, others)
	deadline := time.Now().Add(20 * time.Second)
	for refused := false; !refused; {
		_, err := r.token.Key(t.Context(), r.gcm)
		if err == nil || errors.Is(err, hsm.ErrKeyNotFound) {
			t.Fatalf("with another token in its place a key is looked up with: %v", err)
		}
		refused = strings.Contains(err.Error(), "another token answers")
		if !refused && time.Now().After(deadline) {
			t.Fatalf("the other token was not noticed: %v", err)
		}
	}
	if _, err := r.token.GenerateKey(t.Context(), hsm.UID{9}, "rig", hsm.AES256Blocks); !errors.Is(err, hsm.ErrUnavailable) {
		t.Fatalf("a key is made with: %v", err)
	}
	move(others, other)
	move(away, own)
	for {
		if _, err := r.token.Key(t.Context(), r.gcm); err == nil {
			break
		} else if errors.Is(err, hsm.ErrKeyNotFound) || time.Now().After(deadline.Add(60*time.Second)) {
			t.Fatalf("when the token is back: %v", err)
		}
		<-time.After(20 * time.Millisecond)
	}
	if _, err := r.token.Key(t.Context(), hsm.UID{9}); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Fatalf("the key that was refused: %v", err)
	}
}

func onlyEntry(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%s has %d entries, %v", dir, len(entries), err)
	}
	return entries[0].Name()
}
