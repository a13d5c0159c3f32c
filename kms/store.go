package kms

import (
	"context"
	"io"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// Store keeps the metadata. It belongs to one process (Exclusive) or is shared by
// replicas; either way an Update that returned nil is durable, and every later Load or
// Changes of any process sees it.
//
// Beside the rows a store keeps a sealed head: its revision, and a digest over the whole
// set of rows. A row whose seal is not good, a row that is missing, and an old row put
// back, are ErrTampered, naming what they can.
//
// Errors are domain errors. Those for which nothing else is said: ErrStoreUnavailable
// (the database does not answer; after an Update that failed so the change may or may
// not have been made), ErrTampered.
type Store interface {
	// ID is the store's random identity, 16 hexadecimal digits; it is part of the
	// label of each token object.
	ID() string

	// SealKey is the token object whose seals are good now.
	SealKey() hsm.UID

	// Exclusive tells that no other process can have the store open while this one
	// has. Such a store keeps no leases; the methods of Coordination are not called.
	Exclusive() bool

	// Load reads everything in one transaction, which sees one revision, and verifies
	// each row's seal and the head's.
	Load(ctx context.Context) (*Contents, error)

	// Changes reads in one transaction what has changed since a revision, and verifies
	// the rows' seals and that with these changes the set is the one of the new head.
	// A store whose revision is lower than since is ErrStoreWentBack.
	Changes(ctx context.Context, since Revision) (*Delta, error)

	// Update makes one change in one transaction. The transaction first waits until no
	// other change is under way, then reads what has changed since the revision that
	// the caller knows (as Changes does), and hands it to build, which computes the
	// change from the newest state. A nil change, or an error of build, makes none:
	// Update then returns the head as it is, and build's error. Else it returns the new
	// head, whose revision is that of each row put. build must not block.
	//
	// Each row to put carries in its Revision field the revision that it replaces, 0
	// for a row that must not exist yet; a stored row that differs is ErrConflict.
	Update(ctx context.Context, since Revision, build func(*Delta) (*Change, error)) (Head, error)

	// ReserveEncryptions durably takes n encryptions of the version off its limit and
	// returns how many had been taken before. It takes fewer (at least 1) when fewer
	// than n remain below limit, and none when none remain. It is a change of its own,
	// with a revision.
	ReserveEncryptions(ctx context.Context, uid hsm.UID, n, limit uint64) (taken, before uint64, err error)

	// AddUsage adds to the usage statistics of versions. They are no part of the sealed
	// set: nothing is decided by them.
	AddUsage(ctx context.Context, counts []UsageCount) error

	// Usage returns the usage statistics of versions; a version that was not used has
	// no entries.
	Usage(ctx context.Context, uids []hsm.UID) ([]UsageCount, error)

	// Reseal seals every row and the head anew under another seal key, in one
	// transaction, as a change. From then on only that key's seals are good, here and
	// in all replicas, which find the key by its UID in the store.
	Reseal(ctx context.Context, key hsm.UID) (Head, error)

	// Backup writes everything but the usage statistics and the leases, as it is at
	// one revision, with all seals, so that ReadBackup can verify it.
	Backup(ctx context.Context, w io.Writer) (Head, error)

	// ReadBackup reads what Backup wrote, of this store or another, and verifies it
	// with the seal key that it names, which must be in the token. What is no backup is
	// ErrInvalidRequest.
	ReadBackup(ctx context.Context, r io.Reader) (*Backup, error)

	// Diagnose examines the store for an operator.
	Diagnose(ctx context.Context) []Finding

	Coordination
}

// Coordination is how the replicas on one store know of each other.
type Coordination interface {
	// InsertLease commits the lease row of a replica that joins. It returns the store's
	// revision, read in the same transaction. A store that does not come from the state
	// that this process has seen of it is ErrStoreWentBack, and nothing is changed.
	InsertLease(ctx context.Context, l *Lease) (Revision, error)

	// RenewLease sets Counter and Applied of the row of l's ID; the other fields of l are
	// not looked at. It returns the store's revision, read in the same transaction. No such
	// row: ErrLeaseGone. A store that does not come from the state that this process has
	// seen: ErrStoreWentBack, and nothing is changed. When Applied rises the listeners are
	// woken.
	RenewLease(ctx context.Context, l *Lease) (Revision, error)

	// Leases returns all lease rows and the store's revision, read in one transaction.
	// With confirm the transaction also writes, and its commit is as durable as a
	// renewal's: so a former primary that does not know of a fail-over cannot answer.
	Leases(ctx context.Context, confirm bool) ([]*Lease, Revision, error)

	// RemoveLease removes the row if it has that counter still, or if counter is 0; else
	// it does nothing.
	RemoveLease(ctx context.Context, id string, counter uint64) error

	// Lock waits for the named lock, which excludes all other processes that take it,
	// until unlock or the end of this process. Whoever may lose the connection to the
	// store loses the lock without notice: what is done under a lock must be safe
	// without it, by conditional changes of rows.
	Lock(ctx context.Context, name string) (unlock func(), err error)

	// TryLock is Lock, but ok is false at once if another holds it.
	TryLock(ctx context.Context, name string) (unlock func(), ok bool, err error)

	// Clock reads the clock of the store's server; the zero time: it has none of its own.
	Clock(ctx context.Context) (time.Time, error)

	// Listen calls wake soon after a change of the metadata or of a lease row by another
	// process, and whenever such a call may have been missed, until ctx ends. wake
	// must not block.
	Listen(ctx context.Context, wake func())
}

// Head is the newest revision of a store and the seal over everything that the store
// holds at it. Two heads of one revision with different seals are of different histories.
type Head struct {
	Revision Revision
	Seal     [32]byte
}

// Contents is everything that a Store holds at one revision.
type Contents struct {
	Head       Head
	Origin     *Origin // nil: nothing was restored or rolled back yet
	Namespaces []*Namespace
	Keys       []*Key
	Versions   []*Version
	Orphans    []*Orphan
	ImportJobs []*ImportJob
}

// Delta is what has changed between two revisions: the rows that are new or different,
// as they are at the later one, and the rows that are gone. No change: Head is that of
// the earlier one.
type Delta struct {
	Head       Head
	Origin     *Origin // nil: unchanged
	Namespaces []*Namespace
	Keys       []*Key
	Versions   []*Version
	Orphans    []*Orphan
	ImportJobs []*ImportJob

	RemovedKeys       []KeyName
	RemovedVersions   []VersionName
	RemovedOrphans    []hsm.UID
	RemovedImportJobs []ImportJobName
}

// Change is a set of rows to put and to remove in one transaction. It has at most one
// entry per row.
type Change struct {
	Origin     *Origin
	Namespaces []*Namespace
	Keys       []*Key
	Versions   []*Version
	Orphans    []*Orphan
	ImportJobs []*ImportJob

	// Each is conditional on the row's Revision, as a put is. Keys, versions and import
	// jobs are removed to undo a creation that did not succeed; an import job also when it
	// is EXPIRED and another of its name is made.
	RemoveKeys       []*Key
	RemoveVersions   []*Version
	RemoveOrphans    []*Orphan
	RemoveImportJobs []*ImportJob
}

// Backup is the contents of a backup and where it is from.
type Backup struct {
	Contents
	StoreID string
	SealKey hsm.UID
}

// Origin tells that what a store holds is not what was last committed to it: it was
// restored from a backup, or an operator has accepted that it went back. A value is
// immutable once stored.
type Origin struct {
	// Epoch counts such events from 1. STRICT versions of an earlier epoch encrypt no
	// more: how many encryptions they have made is not known.
	Epoch     uint32
	Time      time.Time // of the last one
	Principal string
	Reason    string
	Revision  Revision // at which it was last changed; 0: not stored yet
}

// Orphan is a token object that carries the store's label and that no version names,
// scheduled for destruction. A value is immutable once stored.
type Orphan struct {
	UID         hsm.UID
	Label       string // CKA_LABEL when it was found
	DestroyTime time.Time
	Principal   string // who scheduled it
	Revision    Revision
}

// Lease is the row by which a replica says that it serves. It holds no times: who waits
// for it measures by its own clock how long the counter stands still.
type Lease struct {
	ID       string // new each time that the replica joins; at most 64 bytes
	Counter  uint64 // another with each renewal
	Applied  Revision
	Duration time.Duration

	// For the operator's eyes.
	Replica   string // its name: by default host name and process id
	Release   string
	StartTime time.Time
}

// UsageCount is how often a version was used for one kind of action.
type UsageCount struct {
	UID      hsm.UID
	Action   Action
	Count    uint64
	LastUsed time.Time
}
