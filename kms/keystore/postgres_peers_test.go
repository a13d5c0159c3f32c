package keystore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

// TestPostgresLocksExclude: stores of several processes count up under a lock.
func TestPostgresLocksExclude(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	var all sync.WaitGroup
	inside, total := 0, 0 // without another lock than the store's: the race detector sees a failure too
	var mu sync.Mutex
	const processes, goroutines, turns = 3, 4, 10
	for range processes {
		_, store := openPostgres(t, dsn)
		for range goroutines {
			all.Go(func() {
				for range turns {
					unlock, err := store.Lock(t.Context(), "objects")
					if err != nil {
						t.Errorf("Lock: %v (%v)", err, errors.Unwrap(err))
						return
					}
					mu.Lock()
					inside++
					total++
					if inside != 1 {
						t.Errorf("%d hold the lock", inside)
					}
					mu.Unlock()
					mu.Lock()
					inside--
					mu.Unlock()
					unlock()
				}
			})
		}
	}
	all.Wait()
	if total != processes*goroutines*turns {
		t.Errorf("%d turns", total)
	}
}

// TestPostgresLocksNest: locks are taken while others are held and wait for others, in
// numbers beyond that of connections.
func TestPostgresLocksNest(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	_, one := openPostgres(t, dsn)
	_, two := openPostgres(t, dsn)
	var all sync.WaitGroup
	for i := range 64 {
		for _, store := range []kms.Store{one, two} {
			all.Go(func() {
				outer, err := store.Lock(t.Context(), fmt.Sprint("key/", i/2))
				if err != nil {
					t.Errorf("Lock: %v (%v)", err, errors.Unwrap(err))
					return
				}
				defer outer()
				inner, err := store.Lock(t.Context(), "objects")
				if err != nil {
					t.Errorf("Lock: %v (%v)", err, errors.Unwrap(err))
					return
				}
				inner()
			})
		}
	}
	all.Wait()
	for i := range 32 {
		unlock, ok, err := one.TryLock(t.Context(), fmt.Sprint("key/", i))
		if err != nil || !ok {
			t.Fatalf("the lock %d is still held: %v, %v", i, ok, err)
		}
		unlock()
		unlock() // the second time does nothing
	}
}

func TestPostgresLockWaits(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	_, one := openPostgres(t, dsn)
	second, two := openPostgres(t, dsn)
	unlock, err := one.Lock(t.Context(), "name")
	if err != nil {
		t.Fatal(err)
	}
	for _, store := range []kms.Store{one, two} {
		if _, ok, err := store.TryLock(t.Context(), "name"); ok || err != nil {
			t.Errorf("TryLock of a lock that is held: %v, %v", ok, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := store.Lock(ctx, "name"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kms.ErrStoreUnavailable) {
			t.Errorf("Lock of a lock that is held: %v", err)
		}
		cancel()
	}
	taken := make(chan func(), 1)
	go func() {
		unlock, err := two.Lock(t.Context(), "name")
		if err != nil {
			t.Error(err)
		}
		taken <- unlock
	}()
	// Longer than the server lets a session be idle.
	select {
	case <-taken:
		t.Fatal("two hold the lock")
	case <-time.After(4 * time.Second):
	}
	unlock()
	unlockTwo := <-taken
	if _, ok, err := one.TryLock(t.Context(), "name"); ok || err != nil {
		t.Errorf("TryLock of a lock that is held: %v, %v", ok, err)
	}
	// The end of a process frees what it holds.
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	defer unlockTwo()
	unlock, err = one.Lock(t.Context(), "name")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := two.Lock(t.Context(), "name"); !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("Lock of a closed store: %v", err)
	}
}

// TestPostgresLockSurvivesRestart: after the server was away locks can be taken again.
func TestPostgresLockAfterRestart(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Fast())
	dsn := cluster.DSN(cluster.NewDatabase(t))
	_, one := openPostgres(t, dsn)
	_, two := openPostgres(t, dsn)
	lost, err := one.Lock(t.Context(), "name")
	if err != nil {
		t.Fatal(err)
	}
	cluster.Restart(t, pgtest.FastShutdown)
	unlock, err := two.Lock(t.Context(), "name")
	if err != nil {
		t.Fatalf("Lock: %v (%v)", err, errors.Unwrap(err))
	}
	lost() // takes nothing from whoever has it now
	if _, ok, err := one.TryLock(t.Context(), "name"); ok || err != nil {
		t.Errorf("TryLock of a lock that is held: %v, %v", ok, err)
	}
	unlock()
}

// TestPostgresStoppedProcess stops a process (SIGSTOP) that holds a lock, and one that is
// about to commit: others go on, and the change of the stopped one is not made.
func TestPostgresStoppedProcess(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	_, store := openPostgres(t, dsn)

	cmd, lines := startChild(t, "lock", dsn)
	stopWhen(t, cmd, lines, "locked")
	unlock, err := store.Lock(t.Context(), "held by the child")
	if err != nil {
		t.Fatalf("Lock: %v (%v)", err, errors.Unwrap(err))
	}
	unlock()

	cmd, lines = startChild(t, "change", dsn)
	stopWhen(t, cmd, lines, "building")
	addNamespace(t, store, "ours")
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || lines.Text() != "store unavailable" {
		t.Errorf("the change of the process that was stopped: %q", lines.Text())
	}
	if _, names := namespaces(t, store); len(names) != 1 {
		t.Errorf("the store holds %v", names)
	}
}

// stopWhen stops a child when it says a word.
func stopWhen(t *testing.T, cmd *exec.Cmd, lines *bufio.Scanner, word string) {
	t.Helper()
	if !lines.Scan() || lines.Text() != word {
		t.Fatalf("the child says %q (%v)", lines.Text(), lines.Err())
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// holdLock is a child: it takes a lock and keeps it.
func holdLock(dsn string, say func(...any)) {
	_, store, err := tryPostgres(context.Background(), dsn)
	if err != nil {
		say(err)
		return
	}
	if _, err := store.Lock(context.Background(), "held by the child"); err != nil {
		say(err)
		return
	}
	say("locked")
	select {}
}

// changeSlowly is a child: it says when it holds the head's row, and goes on when it is told to.
func changeSlowly(dsn string, say func(...any)) {
	_, store, err := tryPostgres(context.Background(), dsn)
	if err != nil {
		say(err)
		return
	}
	name, err := kms.NewNamespaceName("theirs")
	if err != nil {
		say(err)
		return
	}
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	_, err = store.Update(context.Background(), 0, func(*kms.Delta) (*kms.Change, error) {
		say("building")
		<-continued // the parent stops this process, and later lets it go on
		return &kms.Change{Namespaces: []*kms.Namespace{{Name: name, CreatedBy: "unix:0"}}}, nil
	})
	if errors.Is(err, kms.ErrStoreUnavailable) {
		say("store unavailable")
		return
	}
	say(err)
}

// listen listens until the test ends, and returns a channel that gets a value for wakes.
func listen(t testing.TB, store kms.Store) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	wakes := make(chan struct{}, 1)
	var done sync.WaitGroup
	done.Go(func() {
		store.Listen(ctx, func() {
			select {
			case wakes <- struct{}{}:
			default:
			}
		})
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return wakes
}

// awaitWake waits for the next wake.
func awaitWake(t *testing.T, wakes <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-wakes:
	case <-time.After(soon):
		t.Fatalf("nothing wakes after %s", why)
	}
}

// noWake checks that a wake does not come although one of the same origin would be here by now.
func noWake(t *testing.T, wakes <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-wakes:
		t.Errorf("%s wakes", why)
	default:
	}
}

func TestPostgresListen(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	_, one := openPostgres(t, dsn)
	_, two := openPostgres(t, dsn)
	_, three := openPostgres(t, dsn)
	wakes, own := listen(t, two), listen(t, one)
	awaitWake(t, wakes, "the start")
	awaitWake(t, own, "the start")

	addNamespace(t, one, "shop")
	awaitWake(t, wakes, "a change")
	lease := &kms.Lease{ID: "0123456789abcdef", Counter: 1, Duration: time.Second, StartTime: time.Now()}
	if _, err := one.InsertLease(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	renew := func(applied kms.Revision) {
		t.Helper()
		lease.Counter++
		lease.Applied = applied
		if _, err := one.RenewLease(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
	}
	drain(wakes)
	renew(1)
	awaitWake(t, wakes, "a lease that has applied more")

	// What comes in order: had the renewal woken, it would have before the change.
	renew(1)
	noWake(t, own, "a change of one's own")
	addNamespace(t, three, "market")
	awaitWake(t, own, "a change by another")
	awaitWake(t, wakes, "a change by another")
	noWake(t, wakes, "a renewal that has applied nothing")
}

func drain(wakes <-chan struct{}) {
	select {
	case <-wakes:
	default:
	}
}

// TestPostgresListenAgain: whoever listens is woken when the server is back, because it may
// have missed something, and hears again.
func TestPostgresListenAgain(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Fast())
	dsn := cluster.DSN(cluster.NewDatabase(t))
	_, one := openPostgres(t, dsn)
	_, two := openPostgres(t, dsn)
	wakes := listen(t, two)
	awaitWake(t, wakes, "the start")
	for n := range 3 {
		cluster.Restart(t, pgtest.FastShutdown)
		awaitWake(t, wakes, "a restart of the server")
		addNamespace(t, one, fmt.Sprint("shop-", n))
		awaitWake(t, wakes, "a change")
	}
}

// TestPostgresLeavesNothing: no goroutine outlives Close.
func TestPostgresLeavesNothing(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	before := goleak.IgnoreCurrent()
	database, store, err := tryPostgres(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	other, waiting, err := tryPostgres(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	addNamespace(t, store, "shop")
	if _, err := store.Lock(t.Context(), "name"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { store.Listen(ctx, func() {}) })
	all.Go(func() {
		if _, err := waiting.Lock(ctx, "name"); !errors.Is(err, kms.ErrStoreUnavailable) {
			t.Errorf("Lock that is given up: %v", err)
		}
	})
	all.Go(func() {
		// Close ends the wait.
		if _, err := waiting.Lock(t.Context(), "name"); !errors.Is(err, kms.ErrStoreUnavailable) {
			t.Errorf("Lock of a store that is closed meanwhile: %v", err)
		}
	})
	await(t, "a lock that is waited for", func() bool {
		return queryPostgres(t, dsn, "SELECT count(*) FROM pg_locks, pg_database d WHERE locktype = 'advisory' "+
			"AND NOT granted AND database = d.oid AND d.datname = current_database()") == "1"
	})
	cancel()
	for _, d := range []*keystore.Database{other, database} {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	all.Wait()
	goleak.VerifyNone(t, before)
}

// change makes one change after the head and returns the new one.
func changeAfter(b *testing.B, store kms.Store, head kms.Head, id string) kms.Head {
	b.Helper()
	change := &kms.Change{Namespaces: []*kms.Namespace{keystoretest.Namespace(b, id)}}
	head, err := store.Update(b.Context(), head.Revision, func(*kms.Delta) (*kms.Change, error) { return change, nil })
	if err != nil {
		b.Errorf("Update: %v (%v)", err, errors.Unwrap(err))
	}
	return head
}

// BenchmarkPostgres measures on a server that syncs to the disk, on the loopback interface.
func BenchmarkPostgres(b *testing.B) {
	cluster := pgtest.Start(b)
	dsn := cluster.DSN(cluster.NewDatabase(b))
	_, store := openPostgres(b, dsn)
	var names atomic.Int64
	next := func() string { return fmt.Sprint("n-", names.Add(1)) }
	b.Run("Update", func(b *testing.B) {
		head, _ := namespaces(b, store)
		for b.Loop() {
			head = changeAfter(b, store, head, next())
		}
	})
	b.Run("UpdateByFour", func(b *testing.B) { // stores, with two goroutines each
		stores := []kms.Store{store}
		for range 3 {
			_, another := openPostgres(b, dsn)
			stores = append(stores, another)
		}
		var left atomic.Int64
		left.Store(int64(b.N))
		var all sync.WaitGroup
		for _, store := range append(stores, stores...) {
			head, _ := namespaces(b, store)
			all.Go(func() {
				for left.Add(-1) >= 0 {
					head = changeAfter(b, store, head, next())
				}
			})
		}
		b.ResetTimer()
		all.Wait()
	})
	b.Run("UpdateAndWake", func(b *testing.B) {
		_, other := openPostgres(b, dsn)
		wakes := listen(b, other)
		<-wakes
		head, _ := namespaces(b, store)
		for b.Loop() {
			head = changeAfter(b, store, head, next())
			<-wakes
		}
	})
	b.Run("RenewLease", func(b *testing.B) {
		lease := &kms.Lease{ID: next(), Counter: 1, Duration: time.Second, StartTime: time.Now()}
		if _, err := store.InsertLease(b.Context(), lease); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			lease.Counter++
			if _, err := store.RenewLease(b.Context(), lease); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Lock", func(b *testing.B) {
		for b.Loop() {
			unlock, err := store.Lock(b.Context(), "objects")
			if err != nil {
				b.Fatal(err)
			}
			unlock()
		}
	})
}
