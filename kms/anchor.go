package kms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Anchor remembers the newest head of a store outside of it, so that a store that was
// put back to an older state, whole and with good seals, is noticed.
type Anchor interface {
	// Name says where the anchor is, for messages.
	Name() string
	// Read returns the head that was noted; ok is false if none ever was.
	Read(ctx context.Context) (head Head, ok bool, err error)
	// Note remembers the head instead of the one before. It is durable when Note returns.
	Note(ctx context.Context, head Head) error
}

// anchors are all anchors of a service. A goroutine of their own writes them, so that
// nothing else waits for a token that takes long; of several heads that wait it writes
// the newest.
type anchors struct {
	log     *slog.Logger
	writing sync.Mutex    // held while anchors are written
	newer   chan struct{} // there is a head to be written

	stopping, done chan struct{}
	giveUp         context.CancelFunc

	mu      sync.Mutex
	all     []Anchor
	given   []string      // names of those that were given up
	empty   []string      // names of those that remembered nothing at the start of a store that has changes
	wanted  Head          // the newest to be noted
	noted   Revision      // in all of them, as far as they could be written
	written chan struct{} // closed and replaced when noted has changed
	err     error         // of the last note
}

// anchorPatience is how long a change waits until its revision is noted.
const anchorPatience = time.Second

func (a *anchors) init(all []Anchor, log *slog.Logger) {
	a.log, a.all = log, slices.Clone(all)
	a.newer, a.written = make(chan struct{}, 1), make(chan struct{})
}

func (a *anchors) start() {
	ctx, giveUp := context.WithCancel(context.Background())
	a.giveUp, a.stopping, a.done = giveUp, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(a.done)
		for {
			select {
			case <-a.newer:
				a.writeWanted(ctx)
			case <-a.stopping:
				select {
				case <-a.newer:
					a.writeWanted(ctx)
				default:
				}
				return
			}
		}
	}()
}

// stop ends the writing when what is asked for is noted, or that takes too long.
func (a *anchors) stop() {
	close(a.stopping)
	patience := time.NewTimer(anchorPatience)
	defer patience.Stop()
	select {
	case <-a.done:
	case <-patience.C:
	}
	a.giveUp()
	<-a.done
}

func (a *anchors) writeWanted(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	a.mu.Lock()
	head := a.wanted
	a.mu.Unlock()
	_ = a.write(ctx, head) // logged, and kept for Diagnose
}

// ask wants a head to be noted, and does not wait for it. A failure is logged, and shown
// by Diagnose.
func (a *anchors) ask(head Head) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if head.Revision <= max(a.wanted.Revision, a.noted) {
		return
	}
	a.wanted = head
	select {
	case a.newer <- struct{}{}:
	default:
	}
}

// wait waits until a revision that was asked for is noted, but not for ever: the change
// is committed, and will be noted with the next.
func (a *anchors) wait(ctx context.Context, r Revision) {
	patience := time.NewTimer(anchorPatience)
	defer patience.Stop()
	for {
		a.mu.Lock()
		waiting, written := a.noted < min(r, a.wanted.Revision), a.written
		a.mu.Unlock()
		if !waiting {
			return
		}
		select {
		case <-written:
		case <-ctx.Done():
			return
		case <-patience.C:
			a.log.WarnContext(ctx, "a change is known everywhere, and its revision is still being noted outside of the store",
				slog.Uint64("revision", uint64(r)))
			return
		}
	}
}

// write notes a head in every anchor. An anchor that cannot be written, as in a token
// that does not change labels, is given up.
func (a *anchors) write(ctx context.Context, head Head) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	all := slices.Clone(a.all)
	a.mu.Unlock()
	var given []string
	var errs []error
	for _, anchor := range all {
		switch err := anchor.Note(ctx, head); {
		case errors.Is(err, ErrUnsupported):
			given = append(given, anchor.Name())
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", anchor.Name(), err))
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		a.log.ErrorContext(ctx, "the newest revision could not be noted outside of the store",
			slog.Uint64("revision", uint64(head.Revision)), slog.Any("error", causeOf(err)))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = slices.DeleteFunc(a.all, func(anchor Anchor) bool { return slices.Contains(given, anchor.Name()) })
	a.empty = slices.DeleteFunc(a.empty, func(name string) bool { return slices.Contains(given, name) })
	a.given = append(a.given, given...)
	a.noted, a.err = head.Revision, err
	close(a.written)
	a.written = make(chan struct{})
	return err
}

// present returns the anchors that were not given up.
func (a *anchors) present() []Anchor {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

// forget lets the next head be noted although it may be older than the one before.
func (a *anchors) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.noted, a.wanted = 0, Head{}
}

// finding is what there is to say of the anchors.
func (a *anchors) finding() Finding {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := Finding{
		Area: "store", Check: "anchors", Severity: SeverityOK,
		Detail: fmt.Sprintf("revision %d is noted outside of the store, in %s", a.noted, Counted(len(a.all), "place")),
	}
	if len(a.given) > 0 {
		f.Detail += "; not in " + strings.Join(a.given, ", ") + ", which cannot be written"
	}
	if len(a.empty) > 0 {
		f.Severity = SeverityWarning
		f.Detail += "; at the start nothing was noted in " + strings.Join(a.empty, ", ")
		f.Remedy = "that is so once for each new data directory, and where SoftHSM2 was killed while it wrote; " +
			"else somebody has removed the anchor: see whether the store was put back to an older state"
	}
	switch {
	case a.err != nil:
		f.Severity, f.Detail = SeverityError, "the newest revision could not be noted: "+a.err.Error()
		f.Remedy = "without it a store that is put back to an older state is not noticed at the next start"
	case len(a.all) == 0:
		f.Severity, f.Detail = SeverityWarning, "no anchor is configured: a store that is put back to an older state is not noticed"
	}
	return f
}

// checkAnchors compares the store with what its anchors remember. A store that is older
// than one of them, or of another history, is ErrRolledBack, unless the operator has
// accepted it with a reason: then that is recorded in the store, and the anchors are
// put to where the store is.
func (s *Service) checkAnchors(ctx context.Context, acceptRollback string) error {
	now := s.snapshot.Load()
	var empty []string
	for _, anchor := range s.anchors.present() {
		noted, ok, err := anchor.Read(ctx)
		if err != nil {
			return err
		}
		if !ok {
			if now.Revision() > 0 {
				empty = append(empty, anchor.Name())
			}
			continue
		}
		if noted.Revision > now.Revision() {
			// Other replicas may have made changes, and noted them, since this one read the store.
			if err := s.refresh(ctx); err != nil {
				return err
			}
			now = s.snapshot.Load()
		}
		why := ""
		switch {
		case noted.Revision > now.Revision():
			why = fmt.Sprintf("the store is at revision %d, but %s remembers revision %d", now.Revision(), anchor.Name(), noted.Revision)
		case now.head.contradicts(noted):
			why = fmt.Sprintf("the store is at revision %d as %s remembers, but of another history", now.Revision(), anchor.Name())
		default:
			continue
		}
		if acceptRollback == "" {
			return errorf(ErrRolledBack, "%s: it was put back to an older state, and what was revoked since may be enabled in it; "+
				"restore the newest state, or start once with --accept-rollback REASON", why)
		}
		return s.acceptRollback(ctx, why, acceptRollback)
	}
	unlock, err := s.lockObjects(ctx) // an anchor may be made
	if err != nil {
		return err
	}
	defer unlock()
	s.anchors.mu.Lock()
	s.anchors.empty = empty
	s.anchors.mu.Unlock()
	ctx, cancel := detached(ctx)
	defer cancel()
	if err := s.anchors.write(ctx, now.head); err != nil {
		return errorf(ErrStoreUnavailable, "the revision of the store cannot be noted outside of it: %v", err)
	}
	for _, name := range empty {
		s.log.WarnContext(ctx, "an anchor of the store remembered nothing: it is new, or was lost or removed",
			slog.String("anchor", name), slog.Uint64("revision", uint64(now.Revision())))
	}
	return nil
}

// contradicts reports whether another head of the same revision is of another history.
// An anchor may keep the first 16 bytes of a seal only.
func (h Head) contradicts(noted Head) bool {
	return h.Revision == noted.Revision && !bytes.Equal(h.Seal[:anchorSealSize], noted.Seal[:anchorSealSize])
}

// acceptRollback goes on with a store that was put back.
func (s *Service) acceptRollback(ctx context.Context, why, reason string) error {
	s.log.WarnContext(ctx, "a store that was put back to an older state is accepted",
		slog.String("why", why), slog.String("reason", reason))
	s.anchors.forget()
	_, err := s.commit(ctx, func(now *Snapshot) (*Change, error) {
		return &Change{Origin: now.nextOrigin(s, systemPrincipal().Name, reason)}, nil
	})
	event := &Event{
		Time: s.now(), Principal: systemPrincipal(), Action: ActionAcceptRollback, Resource: "store",
		Reason: reason + " (" + why + ")", Err: err,
	}
	if auditErr := s.record(ctx, event); auditErr != nil {
		return auditErr
	}
	return err
}

// nextOrigin is the origin of a store that holds from now on what was not last
// committed to it.
func (s *Snapshot) nextOrigin(service *Service, principal, reason string) *Origin {
	next := &Origin{Epoch: 1, Time: service.now(), Principal: principal, Reason: reason}
	if s.origin != nil {
		next.Epoch, next.Revision = s.origin.Epoch+1, s.origin.Revision
	}
	return next
}

// epoch is the epoch of what is made now.
func (s *Snapshot) epoch() uint32 {
	if s.origin == nil {
		return 0
	}
	return s.origin.Epoch
}
