package keystore_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

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

// hmacSealer seals under a fixed key.
type hmacSealer struct{ id, key string }

func (s hmacSealer) KeyID() string { return s.id }

func (s hmacSealer) Seal(message []byte) (sum [32]byte) {
	mac := hmac.New(sha256.New, []byte(s.key))
	mac.Write(message)
	mac.Sum(sum[:0])
	return sum
}

func testSealer() hmacSealer { return hmacSealer{id: "seal-key-1", key: "the key of the seals"} }

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
	store, err := database.Store(testSealer())
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
		return target
	})
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
	}
	if _, err := store.Commit(t.Context(), change); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return change
}
