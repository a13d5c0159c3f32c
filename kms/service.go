package kms

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// Config is what a Service is made of.
type Config struct {
	Token      hsm.Token
	Store      Store
	Authorizer Authorizer
	Auditor    Auditor
	Logger     *slog.Logger
	Strict     StrictLimits     // zero: the limits of SP 800-38D
	Now        func() time.Time // nil: time.Now
	Observer   Observer         // nil: none

	Replica     ReplicaConfig
	Destruction DestructionLimits
	UsageFlush  time.Duration // how often usage statistics are written; 0: every 10 s
	// Anchors remember the newest head outside of the store; each is asked at the start.
	Anchors []Anchor
	// AcceptRollback is the reason why a store that is older than an anchor is accepted;
	// empty: it is not.
	AcceptRollback string
}

// DestructionLimits bound the window between the request to destroy a version's token
// object and its destruction. A field that is zero has its default.
type DestructionLimits struct {
	Window    time.Duration // where the request names none; default 30 days
	MinWindow time.Duration // the least that a request may name; default 24 hours
}

// StrictLimits bound the encryptions of a STRICT version, whose nonces are 96 random
// bits (SP 800-38D section 8.3). A field that is zero has its default.
type StrictLimits struct {
	Limit    uint64 // after so many the version encrypts no more; default 2^32-1
	RotateAt uint64 // after so many the key is rotated; default 2^31
	Block    uint64 // so many are reserved durably at a time; default 2^16
}

// Service is the domain's implementation of [API]. Make one with New, and Close it
// when no request is under way any more; it does not close the token or the store.
type Service struct {
	token      hsm.Token
	store      Store
	authorizer Authorizer
	auditor    Auditor
	log        *slog.Logger
	strict     StrictLimits
	now        func() time.Time
	observer   Observer

	snapshot atomic.Pointer[Snapshot]

	// commits is held while a change is committed and applied, or those of others are:
	// so they are applied in the order of their revisions.
	commits mutex

	keyLocks     lockTable[KeyName]     // held while a version of the key is made
	versionLocks lockTable[VersionName] // held while a version changes state: row and object

	importJobLocks lockTable[ImportJobName] // held while row or wrapping key of a job changes

	constructions *constructions
	objects       mutex // see lockObjects

	gate     *gate
	scratch  scratch
	patience patience
	rotator  rotator
	selfTest []Finding
	startup  []Finding

	replica     replica
	anchors     anchors
	destruction DestructionLimits
	destroyer   destroyer
	jobExpirer  jobExpirer
	usage       usageCounters
}

var _ API = (*Service)(nil)

// New starts a Service: it loads the metadata, resolves what a crash left half made,
// compares each version with its token object, and tests each protection profile
// against the token. It fails if the metadata cannot be trusted or a self-test fails;
// a version whose object is missing or wrong is reported and only that version refuses.
func New(ctx context.Context, c Config) (*Service, error) {
	s := &Service{
		token:      c.Token,
		store:      c.Store,
		authorizer: c.Authorizer,
		auditor:    c.Auditor,
		log:        c.Logger,
		strict:     c.Strict.withDefaults(),
		now:        c.clock(),
		observer:   c.Observer,
		gate:       newGate(),
		commits:    newMutex(),

		constructions: newConstructions(),
		objects:       newMutex(),

		destruction: c.Destruction.withDefaults(),
	}
	s.anchors.init(c.Anchors, c.Logger)
	s.usage.init(c.UsageFlush)
	s.replica.init(s, c.Replica)
	if err := s.join(ctx, c.AcceptRollback); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		s.replica.stop()
		s.anchors.stop()
		return nil, err
	}
	s.rotator.start(s)
	s.destroyer.start(s)
	s.jobExpirer.start(s)
	s.usage.start(s)
	return s, nil
}

// join makes the service one of the store's replicas: its lease stands before it reads
// the metadata, so that no change can be missed by it and not waited for by others.
func (s *Service) join(ctx context.Context, acceptRollback string) (err error) {
	s.anchors.start()
	defer func() {
		if err != nil {
			s.replica.leave()
			s.anchors.stop()
		}
	}()
	if err := s.replica.enter(ctx); err != nil {
		return err
	}
	contents, err := s.store.Load(ctx)
	if err != nil {
		s.replica.leave()
		return err
	}
	s.snapshot.Store(snapshotOf(contents, nil))
	if err := s.checkAnchors(ctx, acceptRollback); err != nil {
		return err
	}
	s.replica.start()
	return nil
}

// Close stops the work that the service does by itself, waits for it, and gives up the
// lease.
func (s *Service) Close() {
	s.rotator.stop()
	s.destroyer.stop()
	s.jobExpirer.stop()
	s.usage.stop()
	s.replica.stop()
	s.anchors.stop()
}

// Check reports whether the service could serve a request now: whether its token answers,
// and its lease is valid.
func (s *Service) Check(ctx context.Context) error {
	if err := s.replica.mayServe(); err != nil {
		return err
	}
	if err := s.token.Check(ctx); err != nil {
		return tokenError(err, "answer")
	}
	return nil
}

// commit makes a change durable and visible, and returns its revision. build computes it
// from the newest snapshot, while no other change is under way here or in any other
// replica; a nil change is none, and the revision is that of the newest snapshot. Once
// begun a commit is not cancelled with the request: its outcome would be unknown.
func (s *Service) commit(ctx context.Context, build func(*Snapshot) (*Change, error)) (Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	now, err := s.commitAndApply(ctx, build)
	if err != nil {
		return 0, err
	}
	s.anchors.ask(now.head)
	return now.Revision(), nil
}

func (s *Service) commitAndApply(ctx context.Context, build func(*Snapshot) (*Change, error)) (*Snapshot, error) {
	if err := s.commits.lock(ctx); err != nil {
		return nil, errorf(ErrStoreUnavailable, "another change does not end").because(err)
	}
	defer s.commits.unlock()
	known := s.snapshot.Load()
	newest := known
	var learned, made *Delta
	var change *Change
	var refused error
	head, err := s.store.Update(ctx, known.Revision(), func(delta *Delta) (*Change, error) {
		learned, newest = delta, known.apply(delta)
		change, refused = build(newest)
		return change, refused
	})
	switch {
	case err == nil && change != nil:
		made = change.delta(head)
		newest = newest.apply(made)
		s.replace(newest, learned, made)
	case err == nil, refused != nil:
		s.replace(newest, learned)
	default:
		s.log.ErrorContext(ctx, "commit failed", slog.Any("error", causeOf(err)))
		// The change may have been made all the same.
		if catchUpErr := s.catchUp(ctx); catchUpErr != nil {
			s.log.ErrorContext(ctx, "reading the metadata after a failed commit failed", slog.Any("error", causeOf(catchUpErr)))
			s.replica.outdated.Store(true)
		}
	}
	return newest, err
}

// refresh catches up with the store, so that what is read afterwards, under a lock, is
// the committed state.
func (s *Service) refresh(ctx context.Context) error {
	if s.store.Exclusive() && !s.replica.outdated.Load() {
		return nil
	}
	if err := s.commits.lock(ctx); err != nil {
		return errorf(ErrStoreUnavailable, "a change under way does not end").because(err)
	}
	defer s.commits.unlock()
	return s.catchUp(ctx)
}

// catchUp applies what others have changed. The caller holds commits.
func (s *Service) catchUp(ctx context.Context) error {
	now := s.snapshot.Load()
	delta, err := s.store.Changes(ctx, now.Revision())
	if err == nil && delta.Head.Revision == now.Revision() && delta.Head.Seal != now.head.Seal {
		err = errorf(ErrStoreWentBack, "the store is at revision %d as this replica is, but of another history", now.Revision())
	}
	if err != nil {
		if errors.Is(err, ErrStoreWentBack) {
			s.replica.doubtful.Store(true)
		}
		return err
	}
	s.replica.doubtful.Store(false)
	s.replace(now.apply(delta), delta)
	s.replica.outdated.Store(false)
	return nil
}

// replace makes a snapshot the current one, which the changes have led to. The caller
// holds commits.
func (s *Service) replace(next *Snapshot, changes ...*Delta) {
	old := s.snapshot.Load()
	if old == next {
		return
	}
	s.replica.replace(old, next)
	s.lookAgain(old, next, changes...)
}

// changeTimeout bounds a change that was begun and goes on without its caller.
const changeTimeout = 30 * time.Second

// detached returns a context for finishing what must not be left half done: it keeps
// the values of ctx, not its cancellation.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
}

// clock is the service's clock. Times have the precision that every store keeps.
func (c *Config) clock() func() time.Time {
	now := c.Now
	if now == nil {
		now = time.Now
	}
	return func() time.Time { return now().UTC().Truncate(time.Microsecond) }
}

func (l StrictLimits) withDefaults() StrictLimits {
	if l.Limit == 0 {
		l.Limit = strictLimit
	}
	if l.RotateAt == 0 {
		l.RotateAt = strictRotateAt
	}
	if l.Block == 0 {
		l.Block = strictBlock
	}
	return l
}

func (l DestructionLimits) withDefaults() DestructionLimits {
	if l.Window == 0 {
		l.Window = 30 * 24 * time.Hour
	}
	if l.MinWindow == 0 {
		l.MinWindow = 24 * time.Hour
	}
	return l
}

// causeOf is what the log shows of an error: the caller's text and the cause behind it.
func causeOf(err error) string {
	text := err.Error()
	var e *Error
	for errors.As(err, &e) && e.Cause != nil {
		text += ": " + e.Cause.Error()
		err = e.Cause
	}
	return text
}
