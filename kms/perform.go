package kms

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// This file is the choke point. Every request passes through perform (control
// operations) or performData (operations on items), and nothing is released to a
// caller that did not come out of one of them.

// controlCall is a control operation on its way through the choke point.
type controlCall struct {
	principal Principal
	action    Action
	namespace NamespaceName // zero for actions on the service as a whole
	key       KeyName       // zero for actions on a namespace
	resource  string        // full name, for the record
	importJob ImportJobName // for the record; zero for what is no import
	reason    string        // that the caller gave
	invalid   error         // what was found wrong with the request before it came here
	// spread is what work fills in if it changes something; it is part of the record. nil:
	// the operation changes nothing.
	spread *Spread
	// whenLapsed: the operation can be done by a replica that has no lease: it shows
	// how the replica is.
	whenLapsed bool
	work       func(ctx context.Context) error
}

// perform authorises a control operation, does its work and records it. What is done
// is recorded even when the caller has gone away meanwhile.
func (s *Service) perform(ctx context.Context, c *controlCall) error {
	err := s.admit(c.principal, c.action)
	if err == nil && !s.permitted(ctx, s.snapshot.Load(), c.principal, c.action, c.namespace, c.key, nil) {
		err = notAccessible()
	}
	if err == nil {
		err = c.invalid
	}
	if err == nil && !c.whenLapsed {
		err = s.replica.mayServe()
	}
	if err == nil {
		err = c.work(ctx)
	}
	event := &Event{
		Time: s.now(), Principal: c.principal, Action: c.action, Namespace: c.namespace,
		Resource: c.resource, ImportJob: c.importJob, Reason: c.reason, Err: err,
	}
	if c.spread != nil && c.spread.Revision != 0 {
		event.Spread = c.spread
	}
	if auditErr := s.record(ctx, event); auditErr != nil {
		return auditErr
	}
	return err
}

// admit refuses callers that are nobody, and actions that are not in the table.
func (s *Service) admit(p Principal, a Action) error {
	if p.Method == 0 || p.Name == "" {
		return errorf(ErrUnauthenticated, "the caller has not proved who it is")
	}
	if _, known := actions[a]; !known {
		return notAccessible()
	}
	return nil
}

// permitted asks the authorizer; the key's labels are those of the snapshot.
func (s *Service) permitted(
	ctx context.Context, snapshot *Snapshot, p Principal, a Action,
	namespace NamespaceName, key KeyName, context map[string]string,
) bool {
	question := Question{Principal: p, Action: a, Namespace: namespace, Key: key, Context: context}
	if entry := snapshot.key(key); entry != nil {
		question.Labels = entry.Labels
	}
	return s.authorizer.Authorize(ctx, &question).Allowed
}

// record hands an event to the auditor. It goes on when the request was cancelled:
// what was done must be known.
func (s *Service) record(ctx context.Context, event *Event) error {
	ctx, end := s.begin(s.patience.detached(ctx), PhaseAudit)
	defer end()
	if err := s.auditor.Record(ctx, event); err != nil {
		s.log.ErrorContext(ctx, "audit record failed", slog.String("action", string(event.Action)), slog.Any("error", err))
		return errorf(ErrAuditUnavailable, "the audit log cannot be written; without it nothing is released").because(err)
	}
	return nil
}

// dataRequest is a request on items on its way through the choke point: a dataCall, whose
// items are ciphertexts and plaintexts, or a keyCall, whose items name the key versions
// that are to sign, authenticate or decrypt them.
type dataRequest interface {
	// asked is who asks for what, and what was found wrong with the request before it
	// came here.
	asked() (p Principal, a Action, invalid error)
	size() int // how many items it has
	// serve finds the key version of each item in a snapshot, decides whether the caller
	// may use it and whether its state allows it, and only then calls the token. Outcomes
	// are per item; the error is for what concerns all.
	serve(ctx context.Context, s *Service, snapshot *Snapshot) error
	// confirm decides again under a newer snapshot, and takes back what is no longer allowed.
	confirm(ctx context.Context, s *Service, now *Snapshot)
	discardAll() // takes back everything
	event(at time.Time, err error) *Event
}

// performData takes a request on items through the choke point. Outcomes are per item;
// the returned error is for what concerns all of them, and then none is released.
func (s *Service) performData(ctx context.Context, c dataRequest) error {
	var final finalCheck
	principal, action, invalid := c.asked()
	err := s.admit(principal, action)
	if err == nil {
		err = invalid
	}
	if err == nil {
		err = s.replica.mayServe()
	}
	if err == nil {
		final, err = s.serve(ctx, c)
	}
	defer func() { s.drop(final.held) }()
	if err != nil {
		c.discardAll()
	}
	event := c.event(s.now(), err)
	event.Revision, event.CheckedAt = final.revision(), final.at
	event.failItems()
	if auditErr := s.record(ctx, event); auditErr != nil {
		c.discardAll()
		return auditErr
	}
	s.usage.add(event)
	return err
}

// failItems has no item of a request that failed as a whole look served, or verified: what
// was made of those before the failure is not released.
func (e *Event) failItems() {
	if e.Err == nil {
		return
	}
	for i := range e.Items {
		item := &e.Items[i]
		if item.Err == nil {
			item.Err = e.Err
		}
		item.Verdict = 0
	}
}

// serve does the work of a request: state and authorisation of each item before the
// token is called, and again, if anything has changed meanwhile, before release.
func (s *Service) serve(ctx context.Context, c dataRequest) (finalCheck, error) {
	leave, err := s.gate.enter(ctx, c.size())
	if err != nil {
		return finalCheck{}, err
	}
	defer leave()
	snapshot := s.snapshot.Load()
	if err := c.serve(ctx, s, snapshot); err != nil {
		return finalCheck{}, err
	}
	if err := ctx.Err(); err != nil {
		return finalCheck{}, err
	}
	return s.checkFinally(ctx, c, snapshot)
}

// finalCheck is the last look before a result is released: which snapshot it was taken
// under, on which the result is counted until it is handed over, and when.
type finalCheck struct {
	held *Snapshot
	at   time.Duration // by the clock of the lease
}

func (f finalCheck) revision() Revision {
	if f.held == nil {
		return 0
	}
	return f.held.Revision()
}

// checkFinally decides whether what was done under a snapshot may be released: the lease
// must be valid, and if the metadata is no longer that of the snapshot, everything is
// decided again.
func (s *Service) checkFinally(ctx context.Context, c dataRequest, snapshot *Snapshot) (finalCheck, error) {
	held := s.hold()
	if held != snapshot {
		c.confirm(ctx, s, held)
	}
	at, err := s.replica.mayServeAt()
	if err != nil {
		s.drop(held)
		return finalCheck{}, err
	}
	return finalCheck{held: held, at: at}, nil
}

// notAccessible is the one error for what does not exist and what is not allowed.
func notAccessible() *Error {
	return errorf(ErrNotAccessible, "it does not exist here, or you may not do this")
}

// concernsAll reports whether an error is no matter of single items.
func concernsAll(err error) bool {
	return errors.Is(err, ErrTokenUnavailable) || errors.Is(err, ErrOverloaded) || errors.Is(err, ErrStoreUnavailable) || errors.Is(err, ErrTampered) ||
		errors.Is(err, ErrLeaseLapsed) || errors.Is(err, ErrStoreWentBack) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
