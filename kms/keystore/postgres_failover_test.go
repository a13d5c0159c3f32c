package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

// soon is how long tests wait for what should come at once.
const soon = time.Minute

// await waits until the condition holds.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	timeout := time.After(soon)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// writers make changes until stop, and note those that were acknowledged.
type writers struct {
	all          sync.WaitGroup
	stop         chan struct{}
	acknowledged atomic.Int64
	refused      atomic.Int64

	mu    sync.Mutex
	names []string
	last  kms.Revision
}

// startWriters starts some goroutines on each store.
func startWriters(t *testing.T, stores ...kms.Store) *writers {
	t.Helper()
	w := &writers{stop: make(chan struct{})}
	for i, store := range stores {
		for j := range 3 {
			w.all.Go(func() { w.write(t, store, fmt.Sprintf("w%d-%d", i, j)) })
		}
	}
	return w
}

func (w *writers) write(t *testing.T, store kms.Store, prefix string) {
	for n := 0; ; n++ {
		select {
		case <-w.stop:
			return
		default:
		}
		name := fmt.Sprintf("%s-%d", prefix, n)
		head, err := putChange(t.Context(), store, &kms.Change{Namespaces: []*kms.Namespace{keystoretest.Namespace(t, name)}})
		switch {
		case err == nil:
			w.note(name, head)
		case errors.Is(err, kms.ErrStoreUnavailable):
			w.refused.Add(1)
			select { // as a client would
			case <-time.After(5 * time.Millisecond):
			case <-w.stop:
			}
		default:
			t.Errorf("Update: %v (%v)", err, errors.Unwrap(err))
			return
		}
	}
}

func (w *writers) note(name string, head kms.Head) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names = append(w.names, name)
	w.last = max(w.last, head.Revision)
	w.acknowledged.Add(1)
}

// awaitMore waits until so many more changes have been acknowledged.
func (w *writers) awaitMore(t *testing.T, n int64) {
	t.Helper()
	want := w.acknowledged.Load() + n
	await(t, "changes that go on", func() bool { return w.acknowledged.Load() >= want })
}

// end stops the writers and checks that the stores hold all that was acknowledged, and the same.
func (w *writers) end(t *testing.T, stores ...kms.Store) {
	t.Helper()
	close(w.stop)
	w.all.Wait()
	var heads []kms.Head
	for _, store := range stores {
		head, names := namespaces(t, store)
		heads = append(heads, head)
		for _, name := range w.names {
			if !names[name] {
				t.Errorf("the acknowledged change %s is lost", name)
			}
		}
		if head.Revision < w.last {
			t.Errorf("the store is at revision %d, but %d was acknowledged", head.Revision, w.last)
		}
		if head != heads[0] {
			t.Errorf("two handles see different heads: %v and %v", heads[0], head)
		}
	}
	t.Logf("%d acknowledged, %d refused", w.acknowledged.Load(), w.refused.Load())
}

// TestPostgresRestart restarts and kills the server under changes.
func TestPostgresRestart(t *testing.T) {
	cluster := pgtest.Start(t)
	dsn := cluster.DSN(cluster.NewDatabase(t))
	_, one := openPostgres(t, dsn)
	_, two := openPostgres(t, dsn)
	w := startWriters(t, one, two)
	for _, disturb := range []func(){
		func() { cluster.Restart(t, pgtest.FastShutdown) },
		func() { cluster.Restart(t, pgtest.ImmediateShutdown) },
		func() {
			cluster.Kill(t)
			cluster.Start(t)
		},
	} {
		w.awaitMore(t, 50)
		disturb()
		w.awaitMore(t, 50)
	}
	w.end(t, one, two)
}

// TestPostgresAfterRestart: a store that was idle over a restart serves the first call.
func TestPostgresAfterRestart(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Fast())
	_, store := openPostgres(t, cluster.DSN(cluster.NewDatabase(t)))
	addNamespace(t, store, "before")
	cluster.Restart(t, pgtest.FastShutdown)
	addNamespace(t, store, "after")
	cluster.Restart(t, pgtest.FastShutdown)
	if _, names := namespaces(t, store); len(names) != 2 {
		t.Errorf("the store holds %v", names)
	}
	cluster.Stop(t, pgtest.FastShutdown)
	if _, err := store.Load(t.Context()); !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("Load without a server: %v", err)
	}
	if _, _, err := store.Leases(t.Context(), true); !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("Leases without a server: %v", err)
	}
}

// TestPostgresFailOver kills the primary under changes and promotes its synchronous standby.
func TestPostgresFailOver(t *testing.T) {
	primary := pgtest.Start(t)
	database := primary.NewDatabase(t)
	standby := pgtest.StartStandby(t, primary, pgtest.Synchronous())
	dsn := pgtest.PairDSN(primary, standby, database)
	_, one := openPostgres(t, dsn)
	_, two := openPostgres(t, dsn)
	if f := findingOf(t, one, "fail-over"); f.Severity != kms.SeverityOK {
		t.Errorf("with a synchronous standby: %+v", f)
	}
	w := startWriters(t, one, two)
	w.awaitMore(t, 100)
	primary.Kill(t)
	start := time.Now()
	standby.Promote(t)
	promoted := time.Now()
	w.awaitMore(t, 1)
	t.Logf("the standby took writes after %v, the stores did %v later", promoted.Sub(start), time.Since(promoted))
	w.awaitMore(t, 100)
	w.end(t, one, two)
	if f := findingOf(t, one, "fail-over"); f.Severity != kms.SeverityError {
		t.Errorf("with two hosts in the DSN, one of them dead: %+v", f)
	}
}

// TestPostgresCommitNotAwaited: somebody cancels a commit's wait for the synchronous standby.
// The server then says that it has committed, with a warning; a fail-over would lose it.
func TestPostgresCommitNotAwaited(t *testing.T) {
	primary := pgtest.Start(t)
	database := primary.NewDatabase(t)
	standby := pgtest.StartStandby(t, primary, pgtest.Synchronous())
	_, store := openPostgres(t, primary.DSN(database))
	addNamespace(t, store, "before")
	standby.Stop(t, pgtest.FastShutdown)

	outcome := make(chan error, 1)
	go func() {
		_, err := putChange(t.Context(), store, &kms.Change{Namespaces: []*kms.Namespace{keystoretest.Namespace(t, "unsafe")}})
		outcome <- err
	}()
	// A read-only session waits for no standby.
	const waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'kmsd'"
	admin := primary.AdminDSN(database)
	await(t, "a commit that waits for the standby", func() bool { return queryPostgres(t, admin, waiting) == "1" })
	if f := findingOf(t, store, "fail-over"); f.Severity != kms.SeverityError {
		t.Errorf("without the synchronous standby: %+v", f)
	}
	executePostgres(t, admin, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	if err := <-outcome; !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("a commit that the standby has not got is %v", err)
	}
	standby.Start(t)
	addNamespace(t, store, "after")
}

// TestPostgresCommitGivenUp: a caller has no more time while a commit waits for the synchronous
// standby. The commit goes on to wait: others must not see what a fail-over would undo.
func TestPostgresCommitGivenUp(t *testing.T) {
	primary := pgtest.Start(t)
	database := primary.NewDatabase(t)
	standby := pgtest.StartStandby(t, primary, pgtest.Synchronous())
	_, one := openPostgres(t, primary.DSN(database))
	_, two := openPostgres(t, primary.DSN(database))
	addNamespace(t, one, "before")
	standby.Stop(t, pgtest.FastShutdown)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := putChange(ctx, one, &kms.Change{Namespaces: []*kms.Namespace{keystoretest.Namespace(t, "waiting")}})
	if !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("a commit that the standby has not got is %v", err)
	}
	for range 20 {
		if _, names := namespaces(t, two); names["waiting"] {
			t.Fatal("a change is seen that the standby has not got")
		}
	}
	standby.Start(t)
	await(t, "the change, once the standby has it", func() bool {
		_, names := namespaces(t, two)
		return names["waiting"]
	})
	addNamespace(t, one, "after")
}

// TestPostgresFormerPrimary: the primary comes back as a standby while connections to it
// are in the pool. Nothing is read there, and changes go to the new one.
func TestPostgresFormerPrimary(t *testing.T) {
	primary := pgtest.Start(t)
	database := primary.NewDatabase(t)
	standby := pgtest.StartStandby(t, primary, pgtest.Synchronous())
	_, store := openPostgres(t, pgtest.PairDSN(primary, standby, database))
	addNamespace(t, store, "before")
	primary.Stop(t, pgtest.FastShutdown)
	if _, err := store.Load(t.Context()); !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("Load with a standby alone: %v", err)
	}
	standby.Promote(t)
	if _, names := namespaces(t, store); !names["before"] {
		t.Errorf("the new primary holds %v", names)
	}
	addNamespace(t, store, "after")
	if f := findingOf(t, store, "server"); !strings.Contains(f.Detail, fmt.Sprint(standby.Port())) {
		t.Errorf("server: %+v", f)
	}
}

// TestPostgresCancelledUpdate: a caller that goes away leaves nothing locked.
func TestPostgresCancelledUpdate(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	_, one := openPostgres(t, dsn)
	_, two := openPostgres(t, dsn)
	for n := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := one.Update(ctx, 0, func(*kms.Delta) (*kms.Change, error) {
			cancel()
			return &kms.Change{Namespaces: []*kms.Namespace{keystoretest.Namespace(t, fmt.Sprint("cancelled-", n))}}, nil
		})
		if !errors.Is(err, kms.ErrStoreUnavailable) {
			t.Errorf("Update whose caller has gone: %v", err)
		}
		addNamespace(t, two, fmt.Sprint("next-", n))
	}
}
