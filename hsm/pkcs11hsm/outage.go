package pkcs11hsm

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

const (
	firstBackOff = 100 * time.Millisecond
	lastBackOff  = 30 * time.Second
)

// outage is the circuit that opens when the token or the module is gone. While it
// is open calls fail at once, except that one call at a time tries to restore the
// token when the back-off has passed.
type outage struct {
	mu      sync.Mutex
	cause   error // nil: no outage
	since   time.Time
	backOff time.Duration
	next    time.Time // of the next try
	trying  bool

	// witnesses are keys that the token held when it was lost: for who restores it.
	witnesses []hsm.UID
}

// begin opens the circuit; the first try is due at once.
func (o *outage) begin(cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cause == nil {
		now := time.Now()
		o.cause, o.since, o.backOff, o.next = cause, now, firstBackOff, now
	}
}

// try reports whether the caller is to restore the token, and else the error that
// its request fails with, which is nil when there is no outage.
func (o *outage) try() (restore bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.cause == nil:
		return false, nil
	case o.trying || time.Now().Before(o.next):
		return false, fmt.Errorf("%w: %v", hsm.ErrUnavailable, o.cause)
	default:
		o.trying = true
		return true, nil
	}
}

// tried ends a try. It returns how long the outage lasted if it is over.
func (o *outage) tried(err error) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trying = false
	if err == nil {
		o.cause = nil
		return time.Since(o.since)
	}
	o.cause = err
	o.next = time.Now().Add(o.backOff)
	o.backOff = min(2*o.backOff, lastBackOff)
	return 0
}

// restoreIfLost does nothing unless the token is gone. Then it tries to bring it
// back, or fails because it is too early or another call is trying.
func (t *Token) restoreIfLost(ctx context.Context) error {
	restore, err := t.outage.try()
	if !restore {
		return err
	}
	err = t.restore(ctx)
	lasted := t.outage.tried(err)
	if err != nil {
		return fmt.Errorf("%w: %v", hsm.ErrUnavailable, err)
	}
	t.log.InfoContext(ctx, "token is back", "after", lasted)
	return nil
}

// restore finds the token again and makes sessions, login and handles anew. If that
// is not enough the module itself is ended and begun again: some notice a device
// that came back only then.
func (t *Token) restore(ctx context.Context) error {
	err := t.reconnect(ctx, false)
	if err != nil && ctx.Err() == nil {
		err = t.reconnect(ctx, true)
	}
	return err
}

func (t *Token) reconnect(ctx context.Context, force bool) error {
	if err := modules.reconnect(t.module, force); err != nil {
		return err
	}
	t.pool.invalidate(t.pool.current())
	if known := t.handles.tokenKeys(); len(known) > 0 {
		t.outage.witnesses = known
	}
	t.handles.reset()
	t.handles.dropSessionKeys()
	if err := t.relogIn(ctx); err != nil {
		return err
	}
	return t.recognize(ctx)
}

// recognize makes sure that the token that was found is the one that was lost, and not another
// of the same name: it has to hold one of the keys that were known. In another token every key
// would seem to be destroyed, and new ones would be made where nobody looks for them. The
// serial number decides nothing: where a vendor's cluster fails over it may change.
func (t *Token) recognize(ctx context.Context) error {
	known := t.outage.witnesses
	if len(known) == 0 {
		return nil
	}
	recognized := false
	_, err := t.once(ctx, t.pool.slots, func(s *session) error {
		var err error
		recognized, err = search{t, s}.holdsOne(known)
		return err
	})
	if err == nil && !recognized {
		err = fmt.Errorf("%w: another token answers to %s, with serial number %q: it holds none of the %d keys that were known",
			hsm.ErrTokenNotFound, t.module.want, t.module.token.SerialNumber, len(known))
	}
	return err
}

// witnessSearches is how many keys are searched for one by one before all are listed: almost
// always the first is there.
const witnessSearches = 4

// holdsOne reports whether the token holds one of the keys.
func (q search) holdsOne(known []hsm.UID) (bool, error) {
	for _, uid := range known[:min(len(known), witnessSearches)] {
		if key, err := q.key(uid); err != nil || key != nil {
			return key != nil, err
		}
	}
	all, err := q.keys(nil)
	return slices.ContainsFunc(all, func(g *group) bool { return slices.Contains(known, g.uid) }), err
}
