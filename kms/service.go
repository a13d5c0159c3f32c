package kms

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// Config is what a Service is made of.
type Config struct {
	Token      hsm.Token
	Store      Store
	Sealer     *Sealer
	Authorizer Authorizer
	Auditor    Auditor
	Logger     *slog.Logger
	Strict     StrictLimits     // zero: the limits of SP 800-38D
	Now        func() time.Time // nil: time.Now
	Observer   Observer         // nil: none
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
	sealer     *Sealer
	authorizer Authorizer
	auditor    Auditor
	log        *slog.Logger
	strict     StrictLimits
	now        func() time.Time
	observer   Observer

	snapshot atomic.Pointer[Snapshot]

	// commits is held while a change is computed from the current snapshot, committed
	// and applied: so changes are applied in the order of their revisions.
	commits sync.Mutex
	// outdated is set, under commits, when a commit's outcome is unknown: the next
	// change loads everything first.
	outdated bool

	keyLocks     lockTable[KeyName]     // held while a version of the key is made
	versionLocks lockTable[VersionName] // held while a version changes state: row and object

	gate     *gate
	scratch  scratch
	rotator  rotator
	selfTest []Finding
	startup  []Finding
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
		sealer:     c.Sealer,
		authorizer: c.Authorizer,
		auditor:    c.Auditor,
		log:        c.Logger,
		strict:     c.Strict.withDefaults(),
		now:        c.clock(),
		observer:   c.Observer,
		gate:       newGate(),
	}
	contents, err := s.store.Load(ctx)
	if err != nil {
		return nil, err
	}
	s.snapshot.Store(snapshotOf(contents, nil))
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	s.rotator.start(s)
	return s, nil
}

// Close stops the work that the service does by itself, and waits for it.
func (s *Service) Close() { s.rotator.stop() }

// Check reports whether the service could serve a request now: whether its token answers.
func (s *Service) Check(ctx context.Context) error {
	if err := s.token.Check(ctx); err != nil {
		return tokenError(err, "answer")
	}
	return nil
}

// commit makes a change durable and visible. build computes it from the current
// snapshot, while no other change is under way; a nil change is none. Once begun a
// commit is not cancelled with the request: its outcome would be unknown.
func (s *Service) commit(ctx context.Context, build func(*Snapshot) (*Change, error)) error {
	s.commits.Lock()
	defer s.commits.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	if s.outdated {
		if err := s.reload(ctx); err != nil {
			return err
		}
	}
	snapshot := s.snapshot.Load()
	change, err := build(snapshot)
	if err != nil || change == nil {
		return err
	}
	revision, err := s.store.Commit(ctx, change)
	if err != nil {
		s.outdated = true
		s.log.ErrorContext(ctx, "commit failed", slog.Any("error", causeOf(err)))
		if reloadErr := s.reload(ctx); reloadErr != nil {
			s.log.ErrorContext(ctx, "reload after a failed commit failed", slog.Any("error", causeOf(reloadErr)))
		}
		return err
	}
	s.snapshot.Store(snapshot.apply(change, revision))
	return nil
}

// reload replaces the snapshot by what the store holds. The caller holds commits.
func (s *Service) reload(ctx context.Context) error {
	contents, err := s.store.Load(ctx)
	if err != nil {
		return err
	}
	s.snapshot.Store(snapshotOf(contents, s.snapshot.Load()))
	s.outdated = false
	return nil
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
