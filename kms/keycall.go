package kms

import (
	"context"
	"crypto"
	"errors"
	"time"
)

// keyCall is a request on items that name the key or version that is to serve them, on its
// way through the choke point.
type keyCall struct {
	principal Principal
	action    Action
	operation *keyOperation
	parent    NamespaceName
	invalid   error // what was found wrong with the request before it came here
	items     []keyItem
}

// keyItem is one item of a keyCall.
type keyItem struct {
	named namedKey

	digest     []byte
	digestHash crypto.Hash
	message    []byte
	given      []byte // the signature or tag to verify, the ciphertext to decrypt
	format     SignatureFormat

	version *versionEntry // found
	input   []byte        // what the token is given, or the verification: digest or message
	output  []byte        // signature, tag or plaintext
	valid   bool          // Verify, VerifyMac
	err     error
}

// namedKey is what a request names: a key, for its primary version, or a version.
type namedKey struct {
	key     KeyName
	version VersionName
}

// orElse is the name of the request for an item that has none of its own.
func (n namedKey) orElse(request namedKey) namedKey {
	if n.key.IsZero() && n.version.IsZero() {
		return request
	}
	return n
}

// keyName is the key, whichever of both is named.
func (n namedKey) keyName() KeyName {
	if !n.version.IsZero() {
		return n.version.Key()
	}
	return n.key
}

// check refuses a name that is missing, or is two.
func (n namedKey) check() error {
	switch {
	case n.key.IsZero() && n.version.IsZero():
		return required("key", true)
	case !n.key.IsZero() && !n.version.IsZero():
		return Invalid(Violation{"key_version", "name a key, for its primary version, or a version: not both"})
	}
	return nil
}

// newKeyCall makes the call of one item.
func newKeyCall(p Principal, a Action, it keyItem, invalid error) *keyCall {
	return &keyCall{
		principal: p, action: a, operation: keyOperations[a], parent: it.named.keyName().Namespace(),
		invalid: firstError(it.named.check(), invalid), items: []keyItem{it},
	}
}

// newKeyBatch makes the call of a batch of n items, which must come to no more than
// MaxBatchMessages bytes together; item makes item i, and what was found wrong with it.
func newKeyBatch(
	p Principal, a Action, parent NamespaceName, request namedKey, n int, item func(i int) (keyItem, error),
) *keyCall {
	c := &keyCall{principal: p, action: a, operation: keyOperations[a], parent: parent}
	if request != (namedKey{}) {
		c.invalid = request.check()
	}
	if c.invalid = firstError(required("parent", parent.IsZero()), c.invalid, checkCount("items", n)); c.invalid != nil {
		return c
	}
	c.items = make([]keyItem, n)
	total := 0
	for i := range c.items {
		it, invalid := item(i)
		it.named = it.named.orElse(request)
		it.err = firstError(invalid, it.named.check())
		total += len(it.digest) + len(it.message) + len(it.given)
		c.items[i] = it
	}
	if total > MaxBatchMessages {
		c.invalid = tooMuch("items", "%d bytes together are more than %d", total, MaxBatchMessages)
	}
	return c
}

func (c *keyCall) asked() (Principal, Action, error) { return c.principal, c.action, c.invalid }

func (c *keyCall) size() int { return len(c.items) }

// serve does the work of the items, one key version after the other. A version that the token
// cannot use fails its own items.
func (c *keyCall) serve(ctx context.Context, s *Service, snapshot *Snapshot) error {
	c.resolve(ctx, s, snapshot)
	groups := groupByVersion(c.items, func(it *keyItem) *versionEntry {
		if it.err != nil {
			return nil
		}
		return it.version
	})
	var outcomes versionOutcomes
	for _, g := range groups {
		err := c.serveGroup(ctx, s, g)
		if all := outcomes.note(err); all != nil {
			return all
		}
		if err == nil {
			continue
		}
		for _, it := range g.items {
			it.err = c.explain(s, it, err)
		}
	}
	return outcomes.end()
}

func (c *keyCall) serveGroup(ctx context.Context, s *Service, g versionGroup[keyItem]) error {
	if c.operation.uses&objectUses != 0 {
		if err := s.checkObject(ctx, g.version); err != nil {
			return err
		}
	}
	if c.operation.protects == g.version.algorithm.Purpose() {
		if err := s.markUsed(ctx, g.version, c.operation.uses); err != nil {
			return err
		}
	}
	if err := c.operation.work(s, ctx, g.version, g.items); err != nil {
		return err
	}
	for _, it := range g.items {
		if it.err != nil {
			it.err = c.explain(s, it, it.err)
		}
	}
	return nil
}

// resolve finds the version of each item. Items mostly repeat the name of the one before.
func (c *keyCall) resolve(ctx context.Context, s *Service, snapshot *Snapshot) {
	ctx, end := s.begin(ctx, PhasePolicy)
	defer end()
	for i := range c.items {
		it := &c.items[i]
		if it.err != nil {
			continue
		}
		if i > 0 && c.items[i-1].version != nil && c.items[i-1].err == nil && c.items[i-1].named == it.named {
			it.version = c.items[i-1].version
		} else {
			it.version, it.err = c.find(ctx, s, snapshot, it.named)
		}
		if it.err == nil {
			it.err = c.operation.check(it.version.algorithm, it)
		}
	}
}

// find finds the version that is named, and says whether it may be used. A version that
// may not is returned too, for the record.
func (c *keyCall) find(ctx context.Context, s *Service, snapshot *Snapshot, named namedKey) (*versionEntry, error) {
	name := named.keyName()
	if name.Namespace() != c.parent || !c.permitted(ctx, s, snapshot, name) {
		return nil, notAccessible()
	}
	key := snapshot.key(name)
	if key == nil {
		return nil, keyNotFound(name)
	}
	if err := checkPurpose(c.action, name, key.Algorithm, c.operation.purposes...); err != nil {
		return nil, err
	}
	version := key.primary()
	switch {
	case !named.version.IsZero():
		if version = snapshot.version(named.version); version == nil {
			return nil, versionNotFound(named.version)
		}
	case version == nil:
		return nil, noPrimaryYet(name)
	}
	return version, c.refuses(snapshot, version, named)
}

// refuses says why a version cannot do what is asked. If only its key was named, and it
// cannot make anything new, then that is the key's lack of a primary.
func (c *keyCall) refuses(snapshot *Snapshot, v *versionEntry, named namedKey) error {
	if named.version.IsZero() {
		return snapshot.refuses(v, c.operation.uses)
	}
	if why := snapshot.whyNot(v, c.operation.uses); why != nil {
		return why
	}
	return nil
}

func (c *keyCall) permitted(ctx context.Context, s *Service, snapshot *Snapshot, key KeyName) bool {
	return s.permitted(ctx, snapshot, c.principal, c.action, key.Namespace(), key, nil)
}

// explain prefers the reason that the metadata gives by now to what the token said, as
// Service.explain does, and, for a version that was named, its own to the lack of a primary,
// which is what the first use of a version is refused for.
func (c *keyCall) explain(s *Service, it *keyItem, err error) error {
	if !errors.Is(err, ErrTokenRefused) && !errors.Is(err, ErrNoEnabledPrimary) {
		return err
	}
	now := s.snapshot.Load()
	if v := now.versionByUID(it.version.UID); v != nil {
		if refusal := c.refuses(now, v, it.named); refusal != nil {
			return refusal
		}
	}
	return err
}

// confirm decides again. What is told of the state of a version is what it is now.
func (c *keyCall) confirm(ctx context.Context, s *Service, now *Snapshot) {
	for i := range c.items {
		it := &c.items[i]
		if it.err != nil {
			continue
		}
		v := now.versionByUID(it.version.UID)
		if v == nil || !c.permitted(ctx, s, now, v.Name.Key()) {
			it.err = notAccessible()
		} else {
			it.version, it.err = v, c.refuses(now, v, it.named)
		}
		if it.err != nil {
			it.discard()
		}
	}
}

// discard takes back what was made of an item.
func (it *keyItem) discard() {
	clear(it.output)
	it.output, it.valid = nil, false
}

func (c *keyCall) discardAll() {
	for i := range c.items {
		c.items[i].discard()
	}
}

// event is the record of the call, with runs of like items folded into one entry.
func (c *keyCall) event(at time.Time, err error) *Event {
	e := &Event{Time: at, Principal: c.principal, Action: c.action, Namespace: c.parent, Err: err}
	for i := range c.items {
		it := &c.items[i]
		entry := ItemEvent{Count: 1, Err: it.err, Verdict: c.verdict(it)}
		if it.version != nil {
			entry.Version, entry.version = it.version.Name, it.version
		}
		if last := len(e.Items) - 1; last >= 0 && entry.continues(&e.Items[last]) {
			e.Items[last].Count++
			continue
		}
		e.Items = append(e.Items, entry)
	}
	return e
}

// verdict is what the record says of a verification.
func (c *keyCall) verdict(it *keyItem) Verdict {
	switch {
	case !c.operation.verifies || it.err != nil || it.version == nil:
		return 0
	case it.valid:
		return VerdictValid
	default:
		return VerdictInvalid
	}
}

// performKey is performData for a call with one item, whose outcome is the call's.
func (s *Service) performKey(ctx context.Context, c *keyCall) (*keyItem, error) {
	if err := s.performData(ctx, c); err != nil {
		return nil, err
	}
	it := &c.items[0]
	if it.err != nil {
		it.discard()
		return nil, it.err
	}
	return it, nil
}
