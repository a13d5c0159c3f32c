package kms

import (
	"context"
	"errors"
	"time"

	"github.com/keyholt/keyholt/kms/envelope"
)

// dataCall is a data operation on its way through the choke point: first its items are
// opened (if it opens), then sealed (if it seals).
type dataCall struct {
	principal Principal
	action    Action // of the request, for the record
	parent    NamespaceName
	context   map[string]string // the request's encryption context
	// newContext is the encryption context of the new ciphertexts, where it is another
	// than that of those to open.
	newContext *map[string]string
	kind       envelope.Kind // of the ciphertexts

	opens      bool
	openAction Action
	openUse    use // useRewrap if no plaintext comes out, else useOpen
	seals      sealMode
	sealAction Action

	// fill draws the plaintexts to seal, once it is known that some may be sealed.
	fill    func(ctx context.Context) error
	invalid error // what was found wrong with the request before it came here
	items   []item
	// borrowed: the plaintexts are the caller's own memory, and not to be wiped.
	borrowed bool
}

// sealMode says for which items a call makes new ciphertext.
type sealMode uint8

const (
	sealNever sealMode = iota
	sealAll
	sealOld // those opened under a version that is not the primary; failing to is no failure of the item
)

// item is one item of a data call.
type item struct {
	blob    envelope.Blob     // to open
	expect  KeyName           // that must have made it; zero: any of the parent
	under   KeyName           // to seal under; zero: the key that opened it
	context map[string]string // the item's own encryption context; nil: the request's
	bound   *envelope.Binding // what the blob to open is bound to
	rebound *envelope.Binding // what the new ciphertext is bound to

	opened *versionEntry // found for opening
	sealed *versionEntry // found for sealing; nil: the item is not to be sealed

	plaintext  Secret
	ciphertext []byte
	sealErr    error // sealOld only
	err        error
}

func (c *dataCall) asked() (Principal, Action, error) { return c.principal, c.action, c.invalid }

func (c *dataCall) size() int { return len(c.items) }

// serve opens the items, if the call opens, and then seals them, if it seals.
func (c *dataCall) serve(ctx context.Context, s *Service, snapshot *Snapshot) error {
	r := resolver{service: s, ctx: ctx, snapshot: snapshot, call: c}
	if c.opens {
		s.resolve(ctx, &r, r.resolveOpens)
		if err := s.openItems(ctx, c); err != nil {
			return err
		}
	}
	if c.seals == sealNever {
		return nil
	}
	s.resolve(ctx, &r, r.resolveSeals)
	if c.fill != nil {
		if err := c.fill(ctx); err != nil {
			return err
		}
	}
	return s.sealItems(ctx, c)
}

// resolve runs one step of the resolver as a phase.
func (s *Service) resolve(ctx context.Context, r *resolver, step func()) {
	var end func()
	r.ctx, end = s.begin(ctx, PhasePolicy)
	defer end()
	step()
}

func (c *dataCall) confirm(ctx context.Context, s *Service, now *Snapshot) {
	again := resolver{service: s, ctx: ctx, snapshot: now, call: c}
	for i := range c.items {
		it := &c.items[i]
		if it.err == nil && c.opens {
			it.err = again.confirm(c.openAction, c.openUse, it.opened, c.openContext(it))
		}
		if it.err == nil && it.seals() {
			err := again.confirm(c.sealAction, useSeal, it.sealed, c.sealContext(it))
			it.failSeal(c, err)
		}
		if it.err != nil {
			c.discard(it)
		}
	}
}

// seals reports whether new ciphertext is to be made of the item.
func (it *item) seals() bool { return it.err == nil && it.sealErr == nil && it.sealed != nil }

// failSeal notes that no new ciphertext can be made.
func (it *item) failSeal(c *dataCall, err error) {
	switch {
	case err == nil:
	case c.seals == sealOld:
		it.sealErr = err
		it.ciphertext = nil
	default:
		it.err = err
	}
}

// discard takes back what was made of an item.
func (c *dataCall) discard(it *item) {
	if !c.borrowed {
		it.plaintext.Wipe()
	}
	it.plaintext, it.ciphertext = nil, nil
}

func (c *dataCall) discardAll() {
	for i := range c.items {
		c.discard(&c.items[i])
	}
}

// openContext and sealContext are the encryption contexts that an item is opened and
// sealed with.
func (c *dataCall) openContext(it *item) map[string]string {
	if it.context != nil {
		return it.context
	}
	return c.context
}

func (c *dataCall) sealContext(it *item) map[string]string {
	if c.newContext != nil {
		return *c.newContext
	}
	return c.openContext(it)
}

// event is the record of the call, with runs of like items folded into one entry.
func (c *dataCall) event(at time.Time, err error) *Event {
	e := &Event{
		Time: at, Principal: c.principal, Action: c.action, Namespace: c.parent,
		Context: c.context, Err: err,
	}
	for i := range c.items {
		it := &c.items[i]
		if i > 0 && it.repeats(&c.items[i-1]) {
			e.Items[len(e.Items)-1].Count++
			continue
		}
		entry := ItemEvent{Count: 1, Context: it.context, Err: it.err}
		if it.opened != nil {
			entry.Version, entry.version = it.opened.Name, it.opened
		}
		switch {
		case it.sealed == nil:
		case !c.opens:
			entry.Version, entry.version = it.sealed.Name, it.sealed
		case it.sealErr == nil:
			entry.Target, entry.target = it.sealed.Name, it.sealed
		case it.err != nil:
			entry.Target = it.sealed.Name
		}
		if last := len(e.Items) - 1; last >= 0 && entry.continues(&e.Items[last]) {
			e.Items[last].Count++
			continue
		}
		e.Items = append(e.Items, entry)
	}
	return e
}

// repeats reports whether an item that succeeded is recorded as the one before it: what
// most items of a batch do, so it is asked first, and is cheap.
func (it *item) repeats(before *item) bool {
	return it.err == nil && before.err == nil && it.opened == before.opened && it.sealed == before.sealed &&
		(it.sealErr == nil) == (before.sealErr == nil) && it.context == nil && before.context == nil
}

// continues reports whether an item can be counted into the entry before it. Items
// with a context of their own are always told apart.
func (e *ItemEvent) continues(before *ItemEvent) bool {
	return e.Context == nil && before.Context == nil && e.Version == before.Version && e.Target == before.Target &&
		e.target == before.target && e.Verdict == before.Verdict && sameOutcome(e.Err, before.Err)
}

func sameOutcome(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	var ea, eb *Error
	return errors.As(a, &ea) && errors.As(b, &eb) && ea.Is(eb.Sentinel)
}
