package kms_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
	"github.com/keyholt/keyholt/kms/kmstest"
)

// world is a service with all that surrounds it: an in-memory token behind a fault
// wrapper, a store behind another, an auditor that remembers. It can be stopped and
// started again on the same token and store.
type world struct {
	t        testing.TB
	memory   *hsmtest.Memory
	database *memoryDatabase
	shared   bool   // the store may have other replicas
	sqlite   string // path of a database to use instead of the one in memory
	config   func(*kms.Config)

	faults  *hsmtest.Faults
	opened  *keystore.Store // if sqlite
	store   *faultyStore
	auditor *recorder
	service *kms.Service
}

var (
	admin    = kms.Principal{Name: "unix:0", Method: kms.MethodUnix}
	stranger = kms.Principal{Name: "unix:4711", Method: kms.MethodUnix, UID: 4711}
)

// newWorld starts a service on a fresh token and store; change, if given, adjusts its
// configuration at each start.
func newWorld(t testing.TB, memory hsmtest.MemoryConfig, change func(*kms.Config)) *world {
	t.Helper()
	w := &world{t: t, memory: hsmtest.NewMemory(memory), database: newMemoryDatabase(), config: change}
	w.auditor = &recorder{}
	w.mustStart()
	t.Cleanup(w.stop)
	return w
}

// newSQLiteWorld is newWorld on a database on disk.
func newSQLiteWorld(t testing.TB, change func(*kms.Config)) *world {
	t.Helper()
	w := &world{
		t: t, memory: hsmtest.NewMemory(hsmtest.MemoryConfig{}), sqlite: filepath.Join(t.TempDir(), "keyholt.db"),
		config: change, auditor: &recorder{},
	}
	w.mustStart()
	t.Cleanup(w.stop)
	return w
}

// newReplica starts another replica beside w, whose store is shared.
func (w *world) newReplica() *world {
	w.t.Helper()
	r := &world{t: w.t, memory: w.memory, database: w.database, shared: true, config: w.config, auditor: &recorder{}}
	r.mustStart()
	w.t.Cleanup(r.stop)
	return r
}

func (w *world) mustStart() {
	w.t.Helper()
	if err := w.start(); err != nil {
		w.t.Fatalf("start: %v", err)
	}
}

func (w *world) start() error {
	ctx := w.t.Context()
	w.faults = hsmtest.NewFaults(w.memory.Open())
	store, err := w.openStore(ctx)
	if err != nil {
		return err
	}
	w.store = &faultyStore{Store: store}
	config := kms.Config{
		Token: w.faults, Store: w.store, Authorizer: onlyAdmin{}, Auditor: w.auditor,
		Logger: slog.New(slog.DiscardHandler),
	}
	if w.config != nil {
		w.config(&config)
	}
	w.service, err = kms.New(ctx, config)
	return err
}

func (w *world) openStore(ctx context.Context) (kms.Store, error) {
	if w.sqlite != "" {
		var err error
		w.opened, err = keystore.OpenStore(ctx, keystore.Config{Driver: "sqlite", DSN: w.sqlite}, w.faults)
		return w.opened, err
	}
	uid, made := w.database.chosenSealKey()
	_, err := kms.OpenSealer(ctx, w.faults, w.database.id, uid, !made)
	return &memoryStore{db: w.database, exclusive: !w.shared}, err
}

// stop ends the service as a crash would, but for what the operating system frees.
func (w *world) stop() {
	if w.service != nil {
		w.service.Close()
		w.service = nil
	}
	if w.opened != nil {
		if err := w.opened.Close(); err != nil {
			w.t.Errorf("close the store: %v", err)
		}
		w.opened = nil
	}
	if w.faults != nil {
		if err := w.faults.Close(); err != nil {
			w.t.Errorf("close the token: %v", err)
		}
		w.faults = nil
	}
}

func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.mustStart()
}

// onlyAdmin lets the administrator do everything.
type onlyAdmin struct{}

func (onlyAdmin) Authorize(_ context.Context, q *kms.Question) kms.Decision {
	return kms.Decision{Allowed: q.Principal == admin || q.Principal.Method == kms.MethodSystem}
}

// recorder is an auditor that keeps copies of events, and fails while fail is set.
type recorder struct {
	mu     sync.Mutex
	events []kms.Event
	fail   error
}

func (r *recorder) Record(_ context.Context, e *kms.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	c := *e
	c.Items = append([]kms.ItemEvent(nil), e.Items...)
	r.events = append(r.events, c)
	return nil
}

func (r *recorder) setFail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *recorder) last() kms.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		return kms.Event{}
	}
	return r.events[len(r.events)-1]
}

// faultyStore fails the n-th change from now, or the next of a kind, before or after it was made.
type faultyStore struct {
	kms.Store

	mu         sync.Mutex
	failIn     int                    // 0: never; 1: the next
	failOf     func(*kms.Change) bool // of which kind; nil: any
	afterwards bool
	failure    error
}

var errInjected = errors.New("injected fault")

func (s *faultyStore) failCommit(in int, afterwards bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failIn, s.failOf, s.afterwards = in, nil, afterwards
	s.failure = &kms.Error{Sentinel: kms.ErrStoreUnavailable, Cause: errInjected}
}

func (s *faultyStore) failCommitOf(kind func(*kms.Change) bool, afterwards bool) {
	s.failCommit(1, afterwards)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failOf = kind
}

func (s *faultyStore) Update(
	ctx context.Context, since kms.Revision, build func(*kms.Delta) (*kms.Change, error),
) (kms.Head, error) {
	fails := false
	head, err := s.Store.Update(ctx, since, func(d *kms.Delta) (*kms.Change, error) {
		change, err := build(d)
		if err != nil || change == nil {
			return change, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.failOf != nil && !s.failOf(change) {
			return change, nil
		}
		fails = s.failIn == 1
		if s.failIn > 0 {
			s.failIn--
		}
		if fails && !s.afterwards {
			return nil, errInjected
		}
		return change, nil
	})
	if fails {
		return kms.Head{}, s.failure
	}
	return head, err
}

func keyName(t testing.TB, id string) kms.KeyName {
	t.Helper()
	namespace, err := kms.NewNamespaceName(kms.DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	name, err := kms.NewKeyName(namespace, id)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func (w *world) create(id string, p kms.Profile) kms.KeyName {
	w.t.Helper()
	name := keyName(w.t, id)
	if _, err := w.service.CreateKey(w.t.Context(), admin, &kms.CreateKeyRequest{Name: name, Profile: p}); err != nil {
		w.t.Fatalf("CreateKey: %v", err)
	}
	return name
}

func (w *world) encrypt(name kms.KeyName, plaintext string) ([]byte, error) {
	r, err := w.service.Encrypt(w.t.Context(), admin, &kms.EncryptRequest{Key: name, Plaintext: kms.Secret(plaintext)})
	if err != nil {
		return nil, err
	}
	return r.Ciphertext, nil
}

func (w *world) mustEncrypt(name kms.KeyName, plaintext string) []byte {
	w.t.Helper()
	ciphertext, err := w.encrypt(name, plaintext)
	if err != nil {
		w.t.Fatalf("Encrypt: %v", err)
	}
	return ciphertext
}

func (w *world) decrypt(name kms.KeyName, ciphertext []byte) (string, error) {
	r, err := w.service.Decrypt(w.t.Context(), admin, &kms.DecryptRequest{Parent: name.Namespace(), Ciphertext: ciphertext})
	if err != nil {
		return "", err
	}
	return string(r.Plaintext), nil
}

func (w *world) uid(name kms.VersionName) hsm.UID {
	w.t.Helper()
	v, err := w.service.GetKeyVersion(w.t.Context(), admin, name)
	if err != nil {
		w.t.Fatalf("GetKeyVersion: %v", err)
	}
	return v.UID
}

func wantError(t testing.TB, err, sentinel error, doing string) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Fatalf("%s: error %v, want %q", doing, err, sentinel)
	}
}

func TestServiceContract(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t testing.TB) *world{
		"memory":       func(t testing.TB) *world { return newWorld(t, hsmtest.MemoryConfig{Label: "test"}, nil) },
		"SQLite":       func(t testing.TB) *world { return newSQLiteWorld(t, nil) },
		"shared store": func(t testing.TB) *world { return newSharedWorld(t, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kmstest.Run(t, func(t testing.TB) kmstest.Fixture {
				w := start(t)
				return kmstest.Fixture{
					Admin:    kmstest.Caller{API: w.service, Principal: admin},
					Stranger: kmstest.Caller{API: w.service, Principal: stranger},
				}
			})
		})
	}
}

// switchable is an authorizer that allows everything or nothing.
type switchable struct {
	mu    sync.Mutex
	allow bool
}

func (s *switchable) set(allow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allow = allow
}

func (s *switchable) Authorize(context.Context, *kms.Question) kms.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return kms.Decision{Allowed: s.allow}
}

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// find returns the last event of an action.
func (r *recorder) find(a kms.Action) kms.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.events) - 1; i >= 0; i-- {
		if r.events[i].Action == a {
			return r.events[i]
		}
	}
	return kms.Event{}
}
