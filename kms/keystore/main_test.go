package keystore_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
)

// childVariable makes the test binary do one of children instead of running tests; the
// store's path is the first argument. A child says lines to its parent.
const childVariable = "KEYSTORE_TEST_CHILD"

func TestMain(m *testing.M) {
	children := map[string]func(path string, say func(...any)){
		"open":    openOnce,
		"commits": commitForEver,
		"limited": commitUntilLimit,
		"lock":    holdLock,
		"change":  changeSlowly,
	}
	if child := children[os.Getenv(childVariable)]; child != nil {
		child(os.Args[1], func(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) })
		return
	}
	m.Run()
}

// child returns a command that runs one of children on the store.
func child(t *testing.T, name, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), childVariable+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// startChild runs a child until the test ends and returns the lines that it prints.
func startChild(t *testing.T, name, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := child(t, name, path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd, bufio.NewScanner(out)
}

// hmacSealer seals under a key that belongs to a UID.
type hmacSealer struct{ uid hsm.UID }

func (s hmacSealer) KeyID() string { return s.uid.String() }

func (s hmacSealer) Seal(message []byte) (sum [32]byte) {
	mac := hmac.New(sha256.New, append([]byte("the key of the seals"), s.uid[:]...))
	mac.Write(message)
	mac.Sum(sum[:0])
	return sum
}

// openSealer opens any seal key but the one of UID 0 and 1, which do not exist.
func openSealer(_ context.Context, storeID string, uid hsm.UID) (keystore.Sealer, error) {
	if uid == (hsm.UID{}) || uid == (hsm.UID{15: 1}) || len(storeID) != 16 {
		return nil, &kms.Error{Sentinel: kms.ErrTokenRefused, Message: "there is no such key"}
	}
	return hmacSealer{uid}, nil
}

// openStore opens the store at path, with the seal key confirmed.
func openStore(t testing.TB, path string) (*keystore.Database, *keystore.Store) {
	t.Helper()
	database, err := keystore.Open(t.Context(), keystore.Config{Driver: "sqlite", DSN: path})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := database.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if err := database.ConfirmSealKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	store, err := database.Store(openSealer)
	if err != nil {
		t.Fatal(err)
	}
	return database, store
}

func storePath(t testing.TB) string { return filepath.Join(t.TempDir(), "keyholt.db") }

func TestContract(t *testing.T) {
	keystoretest.Run(t, func(t *testing.T) *keystoretest.Target {
		path := storePath(t)
		database, store := openStore(t, path)
		target := &keystoretest.Target{Store: store}
		target.Reopen = func(t *testing.T) {
			if err := database.Close(); err != nil {
				t.Fatal(err)
			}
			database, target.Store = openStore(t, path)
		}
		// No other process can have it open, but nothing of a Store is shared by two.
		target.Second = func(t *testing.T) kms.Store {
			second, err := database.Store(openSealer)
			if err != nil {
				t.Fatal(err)
			}
			return second
		}
		target.Exec = func(t *testing.T, statements ...string) {
			execute(t, path, append([]string{noChain}, statements...)...)
		}
		target.SealKey = randomUID
		return target
	})
}

func randomUID(*testing.T) (uid hsm.UID) {
	_, _ = rand.Read(uid[:]) // never fails
	return uid
}

// put makes a change that is computed from nothing that the store holds.
func put(t testing.TB, store kms.Store, change *kms.Change) (kms.Head, error) {
	t.Helper()
	return store.Update(t.Context(), 0, func(*kms.Delta) (*kms.Change, error) { return change, nil })
}

// sample fills a store with one namespace, a DERIVED key "orders" of two versions and a
// STRICT key "cards" of one.
func sample(t testing.TB, store kms.Store) *kms.Change {
	t.Helper()
	namespace := keystoretest.Namespace(t, "shop")
	derived := keystoretest.Key(t, namespace, "orders", kms.ProfileDerived)
	derived.Primary = 2
	strict := keystoretest.Key(t, namespace, "cards", kms.ProfileStrict)
	strict.Primary = 1
	change := &kms.Change{
		Namespaces: []*kms.Namespace{namespace},
		Keys:       []*kms.Key{derived, strict},
		Versions: []*kms.Version{
			keystoretest.Version(derived, 1), keystoretest.Version(derived, 2), keystoretest.Version(strict, 1),
		},
		Orphans: []*kms.Orphan{keystoretest.Orphan(), keystoretest.Orphan()},
		Origin:  &kms.Origin{Epoch: 1, Time: time.Unix(1774744215, 0), Principal: "unix:0", Reason: "restored"},
	}
	if _, err := put(t, store, change); err != nil {
		t.Fatalf("Update: %v", err)
	}
	return change
}
