package keystore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// lockIdleTimeout is how long a process that holds locks may say nothing before the
	// server ends its session and so frees them: one that was stopped must not keep
	// others waiting for ever. It says something every lockKeepalive.
	lockIdleTimeout = 3 * time.Second
	lockKeepalive   = 750 * time.Millisecond
	// lockStatementTimeout limits every statement of a lock's session but the wait.
	lockStatementTimeout = 2 * time.Second
)

// errClosed: the store was closed.
var errClosed = errors.New("the store is closed")

// advisoryLocks are the named locks: advisory locks of PostgreSQL
// (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS), which
// belong to a session and end with it.
//
// A lock that is free is taken in a session that all such locks of the process share. Only
// for one that another process holds is a session opened, which waits, and then holds it
// until it is unlocked. So the number of connections grows with the names that processes
// contend for at one time, and not with the locks. Within the process locks of one name
// take turns before the server hears of them: one session could take a lock twice.
type advisoryLocks struct {
	connect func(ctx context.Context) (*pgx.Conn, error) // with the settings of a lock's session
	space   string                                       // makes the names of several stores in a database differ

	ended chan struct{} // closed by close

	mu     sync.Mutex // guards the rest
	turns  map[string]*turn
	shared *lockSession // nil: none is open
	closed bool
	open   map[*lockSession]struct{}
	done   sync.WaitGroup // the goroutines of sessions
}

// turn is whose turn it is with a name, within the process.
type turn struct {
	token chan struct{} // holds one while the name is free
	users int           // who hold or wait for it
}

func newAdvisoryLocks(space string, connect func(context.Context) (*pgx.Conn, error)) *advisoryLocks {
	return &advisoryLocks{
		connect: connect,
		space:   space,
		ended:   make(chan struct{}),
		turns:   make(map[string]*turn),
		open:    make(map[*lockSession]struct{}),
	}
}

// Lock implements peers.
func (l *advisoryLocks) Lock(ctx context.Context, name string) (unlock func(), err error) {
	leave, _, err := l.enter(ctx, name, true)
	if err != nil {
		return nil, l.failed(ctx, name, err)
	}
	session, ok, err := l.try(ctx, name)
	if err == nil && !ok {
		session, err = l.wait(ctx, name)
	}
	if err != nil {
		leave()
		return nil, l.failed(ctx, name, err)
	}
	return l.unlocker(ctx, session, name, leave), nil
}

// TryLock implements peers.
func (l *advisoryLocks) TryLock(ctx context.Context, name string) (unlock func(), ok bool, err error) {
	leave, ok, err := l.enter(ctx, name, false)
	if err != nil {
		return nil, false, l.failed(ctx, name, err)
	}
	if !ok {
		return nil, false, nil
	}
	session, ok, err := l.try(ctx, name)
	if err != nil {
		leave()
		return nil, false, l.failed(ctx, name, err)
	}
	if !ok {
		leave()
		return nil, false, nil
	}
	return l.unlocker(ctx, session, name, leave), true, nil
}

// unlocker returns the function that unlocks, once.
func (l *advisoryLocks) unlocker(ctx context.Context, session *lockSession, name string, leave func()) func() {
	return sync.OnceFunc(func() {
		session.unlock(context.WithoutCancel(ctx), l.key(name))
		leave()
	})
}

// failed is the error of a lock that could not be taken.
func (l *advisoryLocks) failed(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return unavailable(ctx.Err(), "waited for the lock %s of the store: %v", name, ctx.Err())
	}
	return unavailable(err, "the lock %s of the store cannot be taken", name)
}

// key is the number that the server knows a lock by.
func (l *advisoryLocks) key(name string) int64 {
	sum := sha256.Sum256([]byte(l.space + "\x00" + name))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// enter waits for the process's own turn with the name, or takes it only if it is free.
func (l *advisoryLocks) enter(ctx context.Context, name string, wait bool) (leave func(), ok bool, err error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, false, errClosed
	}
	t := l.turns[name]
	if t == nil {
		t = &turn{token: make(chan struct{}, 1)}
		t.token <- struct{}{}
		l.turns[name] = t
	}
	t.users++
	l.mu.Unlock()

	forget := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(l.turns, name)
		}
	}
	leave = func() {
		t.token <- struct{}{}
		forget()
	}
	if !wait {
		select {
		case <-t.token:
			return leave, true, nil
		default:
			forget()
			return nil, false, nil
		}
	}
	select {
	case <-t.token:
		return leave, true, nil
	case <-ctx.Done():
		forget()
		return nil, false, ctx.Err()
	case <-l.ended:
		forget()
		return nil, false, errClosed
	}
}

// try takes the lock in the shared session if no other process holds it. A session that
// turns out to be lost is tried again with a new one: whatever it held it had lost already.
func (l *advisoryLocks) try(ctx context.Context, name string) (*lockSession, bool, error) {
	for attempt := 0; ; attempt++ {
		session, err := l.sharedSession(ctx)
		if err != nil {
			return nil, false, err
		}
		ok, err := session.tryLock(ctx, l.key(name))
		if err == nil || attempt > 0 || ctx.Err() != nil {
			return session, ok, err
		}
	}
}

// wait waits for the lock in a session of its own.
func (l *advisoryLocks) wait(ctx context.Context, name string) (*lockSession, error) {
	session, err := l.newSession(ctx)
	if err != nil {
		return nil, err
	}
	if err := session.waitLock(ctx, l.key(name)); err != nil {
		session.end()
		return nil, err
	}
	return session, nil
}

// sharedSession returns the session for locks that are free.
func (l *advisoryLocks) sharedSession(ctx context.Context) (*lockSession, error) {
	l.mu.Lock()
	session := l.shared
	l.mu.Unlock()
	if session != nil && !session.lost() {
		return session, nil
	}
	session, err := l.newSession(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	other := l.shared
	if other != nil && !other.lost() { // somebody was faster
		l.mu.Unlock()
		session.end()
		return other, nil
	}
	l.shared = session
	l.mu.Unlock()
	return session, nil
}

// newSession connects. The session stays open while it is used, and then a little.
func (l *advisoryLocks) newSession(ctx context.Context) (*lockSession, error) {
	conn, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	s := &lockSession{conn: conn, turn: make(chan struct{}, 1), locks: l}
	s.ended, s.end = context.WithCancel(context.WithoutCancel(ctx))
	s.turn <- struct{}{}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		s.end()
		return nil, errors.Join(errClosed, conn.Close(ctx))
	}
	l.open[s] = struct{}{}
	l.done.Go(s.keep)
	return s, nil
}

// forget is told of a session that has ended.
func (l *advisoryLocks) forget(s *lockSession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, s)
	if l.shared == s {
		l.shared = nil
	}
}

// close frees all locks, and ends the waits for others.
func (l *advisoryLocks) close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.ended)
	}
	for s := range l.open {
		s.end()
	}
	l.mu.Unlock()
	l.done.Wait()
}
