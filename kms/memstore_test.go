package kms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// memoryDatabase keeps what several memoryStores share, as a database would. Rows are
// immutable, so they are handed out as they are.
type memoryDatabase struct {
	id       string
	mu       sync.Mutex
	head     kms.Head
	contents map[string]any // by kind and name: *kms.Namespace, *kms.Key, *kms.Version, *kms.Orphan, *kms.ImportJob, *kms.Origin
	removals []removal
	leases   map[string]*kms.Lease
	taken    map[hsm.UID]uint64 // encryptions reserved
	usage    map[hsm.UID]map[kms.Action]kms.UsageCount
	locks    map[string]chan struct{}
	waiting  atomic.Int32          // for locks
	clock    atomic.Pointer[clock] // of the server; nil: it has none
	wakers   map[*memoryStore]func()
	sealKey  hsm.UID
	backups  map[string]*kms.Backup // by content
	seals    map[kms.Revision][32]byte
}

type removal struct {
	revision kms.Revision
	row      any
}

func newMemoryDatabase() *memoryDatabase {
	var random [8]byte
	_, _ = rand.Read(random[:])
	return &memoryDatabase{
		id: hex.EncodeToString(random[:]), contents: make(map[string]any), leases: make(map[string]*kms.Lease),
		taken: make(map[hsm.UID]uint64), usage: make(map[hsm.UID]map[kms.Action]kms.UsageCount),
		locks: make(map[string]chan struct{}), wakers: make(map[*memoryStore]func()), backups: make(map[string]*kms.Backup),
		seals: make(map[kms.Revision][32]byte),
	}
}

// chosenSealKey returns the UID of the seal key, and whether it is the first time that it
// is asked for.
func (d *memoryDatabase) chosenSealKey() (uid hsm.UID, made bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if made = d.sealKey != (hsm.UID{}); !made {
		_, _ = rand.Read(d.sealKey[:])
	}
	return d.sealKey, made
}

// memoryStore is one process's view of a memoryDatabase.
type memoryStore struct {
	db        *memoryDatabase
	exclusive bool
	seen      kms.Head // the newest; under db.mu
}

// follows is ErrStoreWentBack where the database does not come from the state that this
// process has seen. The caller holds mu.
func (s *memoryStore) follows() error {
	d := s.db
	if d.head.Revision < s.seen.Revision || s.seen.Revision != 0 && d.sealAt(s.seen.Revision) != s.seen.Seal {
		return &kms.Error{Sentinel: kms.ErrStoreWentBack}
	}
	return nil
}

// note remembers the head as one that this process has seen. The caller holds mu.
func (s *memoryStore) note() { s.seen = s.db.head }

var _ kms.Store = (*memoryStore)(nil)

func (s *memoryStore) ID() string { return s.db.id }
func (s *memoryStore) SealKey() hsm.UID {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	return s.db.sealKey
}
func (s *memoryStore) Exclusive() bool { return s.exclusive }

func (s *memoryStore) Clock(context.Context) (time.Time, error) {
	if clock := s.db.clock.Load(); clock != nil {
		return clock.time(), nil
	}
	return time.Time{}, nil
}

func rowID(row any) string {
	switch r := row.(type) {
	case *kms.Namespace:
		return r.Name.String()
	case *kms.Key:
		return r.Name.String()
	case *kms.Version:
		return r.Name.String()
	case *kms.Orphan:
		return "orphan " + r.UID.String()
	case *kms.ImportJob:
		return r.Name.String()
	default:
		return "origin"
	}
}

func rowRevision(row any) *kms.Revision {
	switch r := row.(type) {
	case *kms.Namespace:
		return &r.Revision
	case *kms.Key:
		return &r.Revision
	case *kms.Version:
		return &r.Revision
	case *kms.Orphan:
		return &r.Revision
	case *kms.ImportJob:
		return &r.Revision
	default:
		return &row.(*kms.Origin).Revision //nolint:errcheck,forcetypeassert // there is no other row
	}
}

func (s *memoryStore) Load(ctx context.Context) (*kms.Contents, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if err := s.follows(); err != nil {
		return nil, err
	}
	s.note()
	return s.db.load(), nil
}

func (d *memoryDatabase) load() *kms.Contents {
	delta := d.since(0)
	return &kms.Contents{
		Head: d.head, Origin: delta.Origin, Namespaces: delta.Namespaces, Keys: delta.Keys, Versions: delta.Versions, Orphans: delta.Orphans,
		ImportJobs: delta.ImportJobs,
	}
}

// since computes a delta. The caller holds mu.
func (d *memoryDatabase) since(known kms.Revision) *kms.Delta {
	delta := &kms.Delta{Head: d.head}
	for _, row := range d.contents {
		if *rowRevision(row) <= known {
			continue
		}
		switch r := row.(type) {
		case *kms.Namespace:
			delta.Namespaces = append(delta.Namespaces, r)
		case *kms.Key:
			delta.Keys = append(delta.Keys, r)
		case *kms.Version:
			delta.Versions = append(delta.Versions, r)
		case *kms.Orphan:
			delta.Orphans = append(delta.Orphans, r)
		case *kms.ImportJob:
			delta.ImportJobs = append(delta.ImportJobs, r)
		case *kms.Origin:
			delta.Origin = r
		}
	}
	for _, gone := range d.removals {
		if gone.revision <= known {
			continue
		}
		switch r := gone.row.(type) {
		case *kms.Key:
			delta.RemovedKeys = append(delta.RemovedKeys, r.Name)
		case *kms.Version:
			delta.RemovedVersions = append(delta.RemovedVersions, r.Name)
		case *kms.Orphan:
			delta.RemovedOrphans = append(delta.RemovedOrphans, r.UID)
		case *kms.ImportJob:
			delta.RemovedImportJobs = append(delta.RemovedImportJobs, r.Name)
		}
	}
	return delta
}

func (s *memoryStore) Changes(ctx context.Context, since kms.Revision) (*kms.Delta, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if err := s.follows(); err != nil {
		return nil, err
	}
	s.note()
	return s.db.since(since), nil
}

func (s *memoryStore) Update(ctx context.Context, since kms.Revision, build func(*kms.Delta) (*kms.Change, error)) (kms.Head, error) {
	if err := ctx.Err(); err != nil {
		return kms.Head{}, err
	}
	d := s.db
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := s.follows(); err != nil {
		return kms.Head{}, err
	}
	s.note()
	change, err := build(d.since(since))
	if err != nil || change == nil {
		return d.head, err
	}
	put, gone := rowsOf(change)
	for _, row := range append(put, gone...) {
		stored := kms.Revision(0)
		if now, ok := d.contents[rowID(row)]; ok {
			stored = *rowRevision(now)
		}
		if stored != *rowRevision(row) {
			return d.head, &kms.Error{Sentinel: kms.ErrConflict, Message: rowID(row) + " has changed"}
		}
	}
	d.advance()
	for _, row := range put {
		copied := copyRow(row)
		*rowRevision(copied) = d.head.Revision
		d.contents[rowID(row)] = copied
	}
	for _, row := range gone {
		delete(d.contents, rowID(row))
		d.removals = append(d.removals, removal{d.head.Revision, row})
	}
	s.note()
	d.wakeOthers(s)
	return d.head, nil
}

func rowsOf(c *kms.Change) (put, gone []any) {
	if c.Origin != nil {
		put = append(put, c.Origin)
	}
	for _, r := range c.Namespaces {
		put = append(put, r)
	}
	for _, r := range c.Keys {
		put = append(put, r)
	}
	for _, r := range c.Versions {
		put = append(put, r)
	}
	for _, r := range c.Orphans {
		put = append(put, r)
	}
	for _, r := range c.ImportJobs {
		put = append(put, r)
	}
	for _, r := range c.RemoveKeys {
		gone = append(gone, r)
	}
	for _, r := range c.RemoveVersions {
		gone = append(gone, r)
	}
	for _, r := range c.RemoveOrphans {
		gone = append(gone, r)
	}
	for _, r := range c.RemoveImportJobs {
		gone = append(gone, r)
	}
	return put, gone
}

func copyRow(row any) any {
	switch r := row.(type) {
	case *kms.Namespace:
		c := *r
		return &c
	case *kms.Key:
		return r.Clone()
	case *kms.Version:
		c := *r
		return &c
	case *kms.Orphan:
		c := *r
		return &c
	case *kms.ImportJob:
		c := *r
		return &c
	default:
		c := *row.(*kms.Origin) //nolint:errcheck,forcetypeassert // there is no other row
		return &c
	}
}

// advance makes the next head. The caller holds mu.
func (d *memoryDatabase) advance() {
	d.head.Revision++
	d.seals[d.head.Revision-1] = d.head.Seal
	d.head.Seal = sha256.Sum256(binary.BigEndian.AppendUint64(d.head.Seal[:], uint64(d.head.Revision)))
}

// sealAt is the seal of the head when the database was at that revision.
func (d *memoryDatabase) sealAt(r kms.Revision) [32]byte {
	if r == d.head.Revision {
		return d.head.Seal
	}
	return d.seals[r]
}

// wakeOthers tells the listeners of other processes. The caller holds mu.
func (d *memoryDatabase) wakeOthers(self *memoryStore) {
	for store, wake := range d.wakers {
		if store != self {
			go wake()
		}
	}
}

func (s *memoryStore) ReserveEncryptions(_ context.Context, uid hsm.UID, n, limit uint64) (taken, before uint64, err error) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	before = s.db.taken[uid]
	taken = min(n, limit-before)
	s.db.taken[uid] = before + taken
	return taken, before, nil
}

func (s *memoryStore) AddUsage(_ context.Context, counts []kms.UsageCount) error {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	for _, c := range counts {
		if s.db.usage[c.UID] == nil {
			s.db.usage[c.UID] = make(map[kms.Action]kms.UsageCount)
		}
		sum := s.db.usage[c.UID][c.Action]
		c.Count += sum.Count
		if sum.LastUsed.After(c.LastUsed) {
			c.LastUsed = sum.LastUsed
		}
		s.db.usage[c.UID][c.Action] = c
	}
	return nil
}

func (s *memoryStore) Usage(_ context.Context, uids []hsm.UID) (counts []kms.UsageCount, err error) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	for _, uid := range uids {
		for _, c := range s.db.usage[uid] {
			counts = append(counts, c)
		}
	}
	return counts, nil
}

func (s *memoryStore) Reseal(_ context.Context, key hsm.UID) (kms.Head, error) {
	d := s.db
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sealKey = key
	d.advance()
	d.wakeOthers(s)
	return d.head, nil
}

func (s *memoryStore) Backup(_ context.Context, w io.Writer) (kms.Head, error) {
	d := s.db
	d.mu.Lock()
	defer d.mu.Unlock()
	content := "backup of " + d.id + " " + rand.Text()
	d.backups[content] = &kms.Backup{Contents: *d.load(), StoreID: d.id, SealKey: d.sealKey}
	_, err := io.WriteString(w, content)
	return d.head, err
}

func (s *memoryStore) ReadBackup(_ context.Context, r io.Reader) (*kms.Backup, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if backup, ok := s.db.backups[string(bytes.TrimSpace(content))]; ok {
		return backup, nil
	}
	return nil, &kms.Error{Sentinel: kms.ErrInvalidRequest, Message: "this is no backup"}
}

func (s *memoryStore) Diagnose(context.Context) []kms.Finding { return nil }

func (s *memoryStore) InsertLease(_ context.Context, l *kms.Lease) (kms.Revision, error) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if err := s.follows(); err != nil {
		return 0, err
	}
	row := *l
	s.db.leases[l.ID] = &row
	return s.db.head.Revision, nil
}

func (s *memoryStore) RenewLease(_ context.Context, l *kms.Lease) (kms.Revision, error) {
	d := s.db
	d.mu.Lock()
	defer d.mu.Unlock()
	row, ok := d.leases[l.ID]
	if !ok {
		return 0, &kms.Error{Sentinel: kms.ErrLeaseGone}
	}
	if err := s.follows(); err != nil {
		return 0, err
	}
	if l.Applied > row.Applied {
		d.wakeOthers(s)
	}
	row.Counter, row.Applied = l.Counter, l.Applied
	return d.head.Revision, nil
}

func (s *memoryStore) Leases(context.Context, bool) ([]*kms.Lease, kms.Revision, error) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	var rows []*kms.Lease
	for row := range maps.Values(s.db.leases) {
		c := *row
		rows = append(rows, &c)
	}
	return rows, s.db.head.Revision, nil
}

func (s *memoryStore) RemoveLease(_ context.Context, id string, counter uint64) error {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if row, ok := s.db.leases[id]; ok && (counter == 0 || row.Counter == counter) {
		delete(s.db.leases, id)
	}
	return nil
}

func (s *memoryStore) lock(name string) chan struct{} {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if s.db.locks[name] == nil {
		s.db.locks[name] = make(chan struct{}, 1)
	}
	return s.db.locks[name]
}

func (s *memoryStore) Lock(ctx context.Context, name string) (func(), error) {
	turn := s.lock(name)
	s.db.waiting.Add(1)
	defer s.db.waiting.Add(-1)
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *memoryStore) TryLock(_ context.Context, name string) (func(), bool, error) {
	turn := s.lock(name)
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, true, nil
	default:
		return nil, false, nil
	}
}

func (s *memoryStore) Listen(ctx context.Context, wake func()) {
	s.db.mu.Lock()
	s.db.wakers[s] = wake
	s.db.mu.Unlock()
	<-ctx.Done()
	s.db.mu.Lock()
	delete(s.db.wakers, s)
	s.db.mu.Unlock()
}

// The double keeps the contract that the service relies on: a row that has changed since
// it was read is not replaced.
func TestMemoryStoreRefusesStaleRows(t *testing.T) {
	t.Parallel()
	s := &memoryStore{db: newMemoryDatabase(), exclusive: true}
	put := func(revision kms.Revision) error {
		name := keyName(t, "orders")
		_, err := s.Update(t.Context(), 0, func(*kms.Delta) (*kms.Change, error) {
			return &kms.Change{Keys: []*kms.Key{{Name: name, Revision: revision}}}, nil
		})
		return err
	}
	if err := put(0); err != nil {
		t.Fatal(err)
	}
	if err := put(0); !errors.Is(err, kms.ErrConflict) {
		t.Fatalf("a row made twice: %v", err)
	}
	if err := put(1); err != nil {
		t.Fatal(err)
	}
}

// loseLocks lets all locks go without their holders' notice, as a lost connection does.
func (d *memoryDatabase) loseLocks() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.locks = make(map[string]chan struct{})
}

// memoryAnchor is an Anchor that a test can set.
type memoryAnchor struct {
	mu   sync.Mutex
	head kms.Head
}

func (a *memoryAnchor) Name() string { return "the anchor of the test" }

func (a *memoryAnchor) Read(context.Context) (kms.Head, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.head, a.head.Revision != 0, nil
}

func (a *memoryAnchor) Note(_ context.Context, head kms.Head) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.head = head
	return nil
}
