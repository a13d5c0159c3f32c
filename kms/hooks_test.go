package kms_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// hookedStore counts the calls of a store, runs a test's hook before each, and may be deaf:
// then it tells of no change.
type hookedStore struct {
	kms.Store
	deaf bool

	mu    sync.Mutex
	hooks map[string]func(ctx context.Context) error
	count map[string]int
	shown map[string]kms.Revision // by lease: what the rows read have shown as applied
}

func newHookedStore(inner kms.Store) *hookedStore {
	return &hookedStore{
		Store: inner, hooks: make(map[string]func(context.Context) error), count: make(map[string]int),
		shown: make(map[string]kms.Revision),
	}
}

// hook makes all calls of a method run f first, and fail with its error; nil: no more.
func (s *hookedStore) hook(method string, f func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks[method] = f
}

// fail makes all calls of a method fail.
func (s *hookedStore) fail(method string) {
	s.hook(method, func(context.Context) error { return &kms.Error{Sentinel: kms.ErrStoreUnavailable, Cause: errInjected} })
}

// hang makes all calls of a method wait until their context ends, or until they are let go.
func (s *hookedStore) hang(t testing.TB, method string) (letGo func()) {
	released := make(chan struct{})
	letGo = sync.OnceFunc(func() {
		s.hook(method, nil)
		close(released)
	})
	t.Cleanup(letGo)
	s.hook(method, func(ctx context.Context) error {
		select {
		case <-released:
			return nil
		case <-ctx.Done():
			return &kms.Error{Sentinel: kms.ErrStoreUnavailable, Cause: ctx.Err()}
		}
	})
	return letGo
}

func (s *hookedStore) calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[method]
}

func (s *hookedStore) begin(ctx context.Context, method string) error {
	s.mu.Lock()
	s.count[method]++
	f := s.hooks[method]
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx)
}

func (s *hookedStore) Load(ctx context.Context) (*kms.Contents, error) {
	if err := s.begin(ctx, "Load"); err != nil {
		return nil, err
	}
	return s.Store.Load(ctx)
}

func (s *hookedStore) Changes(ctx context.Context, since kms.Revision) (*kms.Delta, error) {
	if err := s.begin(ctx, "Changes"); err != nil {
		return nil, err
	}
	return s.Store.Changes(ctx, since)
}

func (s *hookedStore) Update(
	ctx context.Context, since kms.Revision, build func(*kms.Delta) (*kms.Change, error),
) (kms.Head, error) {
	if err := s.begin(ctx, "Update"); err != nil {
		return kms.Head{}, err
	}
	return s.Store.Update(ctx, since, build)
}

// InsertLease runs its hook after the row was made: the answer is what a hook can lose.
func (s *hookedStore) InsertLease(ctx context.Context, l *kms.Lease) (kms.Revision, error) {
	r, err := s.Store.InsertLease(ctx, l)
	if hooked := s.begin(ctx, "InsertLease"); hooked != nil {
		return 0, hooked
	}
	return r, err
}

func (s *hookedStore) RenewLease(ctx context.Context, l *kms.Lease) (kms.Revision, error) {
	if err := s.begin(ctx, "RenewLease"); err != nil {
		return 0, err
	}
	return s.Store.RenewLease(ctx, l)
}

func (s *hookedStore) Leases(ctx context.Context, confirm bool) ([]*kms.Lease, kms.Revision, error) {
	if err := s.begin(ctx, "Leases"); err != nil {
		return nil, 0, err
	}
	rows, head, err := s.Store.Leases(ctx, confirm)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range rows {
		s.shown[row.ID] = row.Applied
	}
	return rows, head, err
}

func (s *hookedStore) RemoveLease(ctx context.Context, id string, counter uint64) error {
	if err := s.begin(ctx, "RemoveLease"); err != nil {
		return err
	}
	return s.Store.RemoveLease(ctx, id, counter)
}

// allShown reports whether the rows that were read show a revision as applied by all.
func (s *hookedStore) allShown(r kms.Revision) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, applied := range s.shown {
		if applied < r {
			return false
		}
	}
	return len(s.shown) > 0
}

func (s *hookedStore) Listen(ctx context.Context, wake func()) {
	if s.deaf {
		<-ctx.Done()
		return
	}
	s.Store.Listen(ctx, wake)
}

// newHookedReplica starts another replica beside w on a hooked store; change adjusts its
// configuration and its store.
func (w *world) newHookedReplica(change func(*kms.Config, *hookedStore)) (*world, *hookedStore) {
	w.t.Helper()
	r, store, err := w.tryReplica(change)
	if err != nil {
		w.t.Fatalf("start: %v", err)
	}
	return r, store
}

// tryReplica is newHookedReplica whose start may fail.
func (w *world) tryReplica(change func(*kms.Config, *hookedStore)) (*world, *hookedStore, error) {
	var store *hookedStore
	r := &world{t: w.t, memory: w.memory, database: w.database, shared: true, auditor: &recorder{}}
	r.config = func(c *kms.Config) {
		if w.config != nil {
			w.config(c)
		}
		store = newHookedStore(c.Store)
		c.Store = store
		change(c, store)
	}
	err := r.start()
	w.t.Cleanup(r.stop)
	return r, store, err
}

// bubble runs a test in a bubble of synctest, where time passes only while everybody
// waits. change gets what the services' clocks are to be.
func bubble(t *testing.T, test func(t *testing.T, timed func(*kms.Config))) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		test(t, func(c *kms.Config) { c.Replica.Clock = func() time.Duration { return time.Hour + time.Since(began) } })
	})
}

// leases returns the lease rows.
func (d *memoryDatabase) leaseRows() []kms.Lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := make([]kms.Lease, 0, len(d.leases))
	for _, row := range d.leases {
		rows = append(rows, *row)
	}
	return rows
}

// lease returns the only lease row.
func (w *world) lease() kms.Lease {
	w.t.Helper()
	rows := w.database.leaseRows()
	if len(rows) != 1 {
		w.t.Fatalf("%d leases: %+v", len(rows), rows)
	}
	return rows[0]
}

// usable reports whether the token object of a version is switched on.
func (w *world) usable(uid hsm.UID) bool {
	w.t.Helper()
	object, err := w.memory.Open().Key(w.t.Context(), uid)
	if err != nil {
		w.t.Fatal(err)
	}
	return object.Usable
}
