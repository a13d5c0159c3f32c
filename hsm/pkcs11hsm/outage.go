package pkcs11hsm

import (
	"context"
	"fmt"
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
	t.handles.reset()
	t.handles.dropSessionKeys()
	return t.relogIn(ctx)
}
