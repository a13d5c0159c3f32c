package keystore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// errSessionLost: the session that was to hold the lock has ended.
var errSessionLost = errors.New("the session for locks has ended")

// lockSession is a session of the server that holds locks. Its statements take turns; all
// but the wait for a lock are over after lockStatementTimeout.
type lockSession struct {
	locks *advisoryLocks
	turn  chan struct{} // holds one while no statement is under way
	conn  *pgx.Conn     // used by whoever has the turn
	held  int           // locks; guarded by the turn

	ended context.Context // ends with the session
	end   context.CancelFunc
}

// enter waits for the turn. ok is false if the session is closed or ctx ends before.
func (s *lockSession) enter(ctx context.Context) (ok bool) {
	select {
	case <-s.turn:
		if s.lost() {
			s.leave()
			return false
		}
		return true
	case <-s.ended.Done():
		return false
	case <-ctx.Done():
		return false
	}
}

func (s *lockSession) leave() { s.turn <- struct{}{} }

// lost tells that the session is closed, and so holds nothing.
func (s *lockSession) lost() bool { return s.ended.Err() != nil }

// tryLock takes a lock if it is free. The end of ctx does not interrupt the statement: that
// would end the session, and the locks that others hold in it.
func (s *lockSession) tryLock(ctx context.Context, key int64) (ok bool, err error) {
	if !s.enter(ctx) {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, errSessionLost
	}
	defer s.leave()
	statement, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockStatementTimeout)
	defer cancel()
	if err := s.conn.QueryRow(statement, "SELECT pg_try_advisory_lock($1)", key).Scan(&ok); err != nil {
		s.end()
		return false, err
	}
	if ok {
		s.held++
	}
	return ok, nil
}

// waitLock waits for a lock until ctx ends, which ends the session too.
func (s *lockSession) waitLock(ctx context.Context, key int64) error {
	if !s.enter(ctx) {
		return errSessionLost
	}
	defer s.leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ended, cancel)()
	s.held++
	_, err := s.conn.Exec(ctx, "SELECT pg_advisory_lock($1)", key)
	if err == nil && s.lost() {
		return errSessionLost
	}
	return err
}

// unlock frees a lock, and closes a session that was opened for it. If it fails the
// session ends, and the lock with it.
func (s *lockSession) unlock(ctx context.Context, key int64) {
	ctx, cancel := context.WithTimeout(ctx, lockStatementTimeout)
	defer cancel()
	if !s.enter(ctx) {
		s.end()
		return
	}
	defer s.leave()
	s.held--
	var freed bool
	err := s.conn.QueryRow(ctx, "SELECT pg_advisory_unlock($1)", key).Scan(&freed)
	if err != nil || !freed || s.held == 0 && !s.isShared() {
		s.end()
	}
}

func (s *lockSession) isShared() bool {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	return s.locks.shared == s
}

// keep speaks to the server so that it does not take the session for one of a stopped
// process, and closes the session when it holds no lock any more.
func (s *lockSession) keep() {
	defer s.disconnect()
	ticker := time.NewTicker(lockKeepalive)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.keepalive()
		case <-s.ended.Done():
			return
		}
	}
}

// keepalive says something, or ends the session if it holds nothing or is lost. While a
// statement is under way there is nothing to say.
func (s *lockSession) keepalive() {
	select {
	case <-s.turn:
	default:
		return
	}
	defer s.leave()
	if s.held == 0 {
		s.end()
		return
	}
	ctx, cancel := context.WithTimeout(s.ended, lockStatementTimeout)
	defer cancel()
	if s.conn.Ping(ctx) != nil {
		s.end()
	}
}

// disconnect is the end of keep.
func (s *lockSession) disconnect() {
	s.locks.forget(s)
	<-s.turn // a statement that is under way has its own end
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ended), lockStatementTimeout)
	defer cancel()
	_ = s.conn.Close(ctx) // the server ends the session either way
}
