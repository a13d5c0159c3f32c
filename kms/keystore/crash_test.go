package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
)

// TestKilledWhileCommitting kills a process in the midst of commits and reservations,
// again and again on one store: whatever it had acknowledged is there afterwards.
func TestKilledWhileCommitting(t *testing.T) {
	path := storePath(t)
	database, _ := openStore(t, path)
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range 6 {
		cmd, lines := startChild(t, "commits", path)
		acknowledged := 0
		for acknowledged < 10+7*round && lines.Scan() {
			acknowledged++
		}
		last := lines.Text()
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what was acknowledged before the kill arrived
			last = lines.Text()
		}
		_ = cmd.Wait()
		checkAcknowledged(t, path, last)
	}
}

// checkAcknowledged holds that the store is sound and holds what the line says.
func checkAcknowledged(t *testing.T, path, line string) {
	t.Helper()
	fields := strings.Fields(line)
	if len(fields) != 3 {
		t.Fatalf("the child says %q", line)
	}
	revision, _ := strconv.ParseUint(fields[0], 10, 64)
	number, _ := strconv.ParseUint(fields[1], 10, 32)
	taken, _ := strconv.ParseUint(fields[2], 10, 64)

	database, store := openStore(t, path)
	defer database.Close()
	contents, err := store.Load(t.Context())
	if err != nil {
		t.Fatalf("Load after a kill: %v", err)
	}
	if uint64(contents.Head.Revision) < revision || uint64(len(contents.Versions)) < number {
		t.Errorf("revision %d with %d versions, but %d with %d were acknowledged",
			contents.Head.Revision, len(contents.Versions), revision, number)
	}
	if primary := contents.Keys[0].Primary; int(primary) != len(contents.Versions) {
		t.Errorf("half a change: %d versions, and the key's primary is %d", len(contents.Versions), primary)
	}
	if _, before, err := store.ReserveEncryptions(t.Context(), contents.Versions[0].UID, 0, 1); err != nil || before < taken {
		t.Errorf("%d encryptions taken, %v, but %d were acknowledged", before, err, taken)
	}
	for _, f := range store.Diagnose(t.Context()) {
		if f.Severity == kms.SeverityError {
			t.Errorf("after a kill: %+v", f)
		}
	}
}

// commitForEver is the child that adds versions to one STRICT key, each together with
// the key's new primary, and takes encryptions. After each step it prints the revision,
// the number of versions and the encryptions taken.
func commitForEver(path string, say func(...any)) {
	c := newCommitter(path)
	for {
		if err := c.step(); err != nil {
			fmt.Fprintln(os.Stderr, "commit:", err)
			return
		}
		say(c)
	}
}

// committer makes the changes of a child process.
type committer struct {
	database *keystore.Database
	store    *keystore.Store
	key      *kms.Key
	first    *kms.Version
	number   uint32
	taken    uint64
	revision kms.Revision
}

// newCommitter opens the store and goes on with the key that is there, or makes it. Its
// errors end the child: the parent sees them on standard error.
func newCommitter(path string) *committer {
	fatal := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			syscall.Exit(1)
		}
	}
	database, err := keystore.Open(context.Background(), keystore.Config{Driver: "sqlite", DSN: path})
	fatal(err)
	fatal(database.ConfirmSealKey(context.Background()))
	store, err := database.Store(openSealer)
	fatal(err)
	contents, err := store.Load(context.Background())
	fatal(err)
	c := &committer{database: database, store: store}
	if len(contents.Keys) > 0 {
		c.key, c.first = contents.Keys[0], contents.Versions[0]
		c.number, c.revision = c.key.Primary, contents.Head.Revision
		return c
	}
	quiet := &testing.T{} // the samples are well-formed: nothing is reported
	namespace := keystoretest.Namespace(quiet, "shop")
	c.key = keystoretest.Key(quiet, namespace, "cards", kms.ProfileStrict)
	c.first = keystoretest.Version(c.key, 1)
	c.key.Primary, c.number = 1, 1
	c.revision, err = c.put(&kms.Change{
		Namespaces: []*kms.Namespace{namespace}, Keys: []*kms.Key{c.key}, Versions: []*kms.Version{c.first},
	})
	fatal(err)
	c.key.Revision = c.revision
	return c
}

// step adds a version and takes an encryption.
func (c *committer) step() error {
	key := c.key.Clone()
	key.Primary = c.number + 1
	revision, err := c.put(&kms.Change{
		Keys: []*kms.Key{key}, Versions: []*kms.Version{keystoretest.Version(key, c.number+1)},
	})
	if err != nil {
		return err
	}
	key.Revision = revision
	c.key, c.number, c.revision = key, c.number+1, revision
	taken, before, err := c.store.ReserveEncryptions(context.Background(), c.first.UID, 1, 1<<32)
	if err != nil {
		return err
	}
	c.taken, c.revision = before+taken, c.revision+1
	return nil
}

func (c *committer) put(change *kms.Change) (kms.Revision, error) {
	head, err := c.store.Update(context.Background(), c.revision, func(*kms.Delta) (*kms.Change, error) { return change, nil })
	return head.Revision, err
}

func (c *committer) String() string { return fmt.Sprintf("%d %d %d", c.revision, c.number, c.taken) }

// TestWriteFails lets the writes of a process to its files fail, and then succeed again.
func TestWriteFails(t *testing.T) {
	path := storePath(t)
	out, err := child(t, "limited", path).Output()
	if err != nil {
		t.Fatalf("the child: %v, %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 3 || lines[0] != "store unavailable" || lines[1] != "loaded the same" {
		t.Fatalf("the child says %q", lines)
	}
	checkAcknowledged(t, path, lines[2])
}

// commitUntilLimit is the child that commits under a limit on the size of its files
// until that fails, lifts the limit and goes on.
func commitUntilLimit(path string, say func(...any)) {
	signal.Ignore(syscall.SIGXFSZ) // so that a write fails with EFBIG
	c := newCommitter(path)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		say("getrlimit:", err)
		return
	}
	low := limit
	low.Cur = 512 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &low); err != nil {
		say("setrlimit:", err)
		return
	}
	var err error
	for range 10_000 {
		if err = c.step(); err != nil {
			break
		}
	}
	var failure *kms.Error
	if !errors.As(err, &failure) {
		say("writing beyond the limit:", err)
		return
	}
	say(failure.Sentinel)
	contents, err := c.store.Load(context.Background())
	if err == nil && contents.Head.Revision == c.revision && len(contents.Versions) == int(c.number) {
		say("loaded the same")
	} else {
		say("Load:", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		say("setrlimit:", err)
		return
	}
	for range 10 {
		if err := c.step(); err != nil {
			say("after the limit was lifted:", err)
			return
		}
	}
	say(c)
	_ = c.database.Close()
}
