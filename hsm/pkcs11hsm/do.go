package pkcs11hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// do runs f with a session of its own, inside the module. When f fails because a
// session, the login, a handle or the token was lost, the loss is repaired and f
// runs again, once for each kind of loss; so f must be written to be run again. All
// calls of a Token but those of start and end go through here.
func (t *Token) do(ctx context.Context, f func(s *session) error) error {
	return t.doWith(ctx, t.pool.slots, f)
}

// doWith is do with a session from some seats of the pool.
func (t *Token) doWith(ctx context.Context, from seats, f func(s *session) error) error {
	t.life.RLock() // Close waits for it
	defer t.life.RUnlock()
	if err := t.restoreIfLost(ctx); err != nil {
		return err
	}
	var repaired [classFailed + 1]bool
	for {
		generation, err := t.once(ctx, from, f)
		c, ok := classOf(err)
		if !ok || repaired[c] {
			return err
		}
		repaired[c] = true
		switch c {
		case classSession:
			if sessionIsDead(err) {
				t.lostSessions(ctx, generation, err)
			}
		case classLogin:
			if err := t.relogIn(ctx); err != nil {
				return err
			}
		case classHandle: // withHandle has forgotten it
		case classGone:
			t.outage.begin(err)
			t.log.ErrorContext(ctx, "token is gone", "error", err)
			if err := t.restoreIfLost(ctx); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// once runs f with a session and finds out what its error means. It returns the
// generation of the pool that the session belonged to.
func (t *Token) once(ctx context.Context, from seats, f func(s *session) error) (generation uint64, err error) {
	generation = t.pool.current()
	l, err := t.pool.acquire(ctx, from)
	if errors.Is(err, errPoolClosed) {
		return generation, hsm.ErrClosed
	}
	if err != nil {
		return generation, err
	}
	defer l.release()
	t.module.calls.RLock()
	defer t.module.calls.RUnlock()
	s := l.value
	if s.epoch != t.module.epoch {
		// The module was initialised anew since: the handle may be another's.
		l.poison()
		return l.generation, newCallError("C_GetSessionInfo", pkcs11.CKR_SESSION_HANDLE_INVALID)
	}
	err = f(s)
	e, ok := errors.AsType[*callError](err)
	if !ok {
		return l.generation, err
	}
	switch e.class {
	case classAsk:
		e = t.diagnose(s, e)
	case classHandle:
		// Without a login private objects are gone from sight, handles and all.
		if lost, ok := errors.AsType[*callError](t.state(s)); ok {
			e = lost
		}
	}
	if e.class == classSession {
		l.poison()
		s.dead = sessionIsDead(e)
	}
	return l.generation, e
}

// lostSessions renews the pool after the module disowned one of its sessions.
// Mostly it then has disowned them all, and object handles with them.
func (t *Token) lostSessions(ctx context.Context, generation uint64, err error) {
	if t.pool.invalidate(generation) {
		t.handles.reset()
		t.log.WarnContext(ctx, "sessions were lost and are opened again", "error", err)
	}
}

// withHandle runs f as do does, with the handle of a key.
func (t *Token) withHandle(ctx context.Context, uid hsm.UID, f func(s *session, k keyHandle) error) error {
	return t.withHandleFrom(ctx, t.pool.slots, uid, f)
}

func (t *Token) withHandleFrom(ctx context.Context, from seats, uid hsm.UID,
	f func(s *session, k keyHandle) error) error {
	return t.doWith(ctx, from, func(s *session) error {
		return t.onHandle(uid, s, func(k keyHandle) error {
			gate := t.gates.of(uid)
			held, err := gate.use(ctx)
			if err != nil {
				return err
			}
			if held {
				defer gate.RUnlock()
			}
			return f(s, k)
		})
	})
}

// writeHandle runs f as withHandle does, while nobody else uses the key or searches.
func (t *Token) writeHandle(ctx context.Context, uid hsm.UID, f func(s *session, k keyHandle) error) error {
	return t.do(ctx, func(s *session) error {
		return t.onHandle(uid, s, func(k keyHandle) error {
			done, err := t.gates.of(uid).write(ctx)
			if err != nil {
				return err
			}
			defer done()
			return f(s, k)
		})
	})
}

// onHandle runs f with the handle of a key, and forgets the handle if the token does not know it.
func (t *Token) onHandle(uid hsm.UID, s *session, f func(k keyHandle) error) error {
	k, ok := t.handles.getOurs(uid) // nearly always: no finder is made for it
	if !ok {
		var err error
		if k, err = t.handles.lookup(uid, search{t, s}); err != nil {
			return err
		}
	}
	err := f(k)
	if c, ok := classOf(err); ok && c == classHandle {
		t.handles.forget(uid, k.handle)
	}
	return err
}

// withKey runs f as do does, with the handle of a key that may do what spec says.
func (t *Token) withKey(ctx context.Context, uid hsm.UID, spec hsm.KeySpec,
	f func(s *session, h objectHandle) error) error {
	return t.withKeyFrom(ctx, t.pool.slots, uid, spec, f)
}

func (t *Token) withKeyFrom(ctx context.Context, from seats, uid hsm.UID, spec hsm.KeySpec,
	f func(s *session, h objectHandle) error) error {
	return t.withHandleFrom(ctx, from, uid, func(s *session, k keyHandle) error {
		if k.spec != spec {
			return fmt.Errorf("%w: %s is no %s key", hsm.ErrKeyNotPermitted, uid, spec)
		}
		return f(s, k.handle)
	})
}
