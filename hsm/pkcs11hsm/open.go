package pkcs11hsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

const (
	// lookAgain is for how long Open begins anew if what it met may pass.
	lookAgain = 1500 * time.Millisecond
	// The first wait in between, of which each is twice the one before, and the longest.
	firstLookAgain   = 5 * time.Millisecond
	longestLookAgain = 100 * time.Millisecond
)

// Open loads and initialises the module, finds the token, logs in with one try, opens
// the session pool, and probes what the token can do.
//
// A token that is not there, or fails for a reason that is not the PIN, is tried again for
// 1.5 seconds, each time in a module begun anew unless another Token is open in it. For in
// SoftHSM2 2.6.1 a login of any process empties the token's file and writes it after the lock
// on it was given up: who starts at that moment sees no token, or one that fails, or has no
// PIN. A PIN that was refused, or that the token counts as wrong, is not tried again; nor is
// one after a return code of C_Login that is not SoftHSM2's at such a moment, since to some
// device it may be the word for a wrong PIN; and after SoftHSM2's only once.
//
// Errors: hsm.ErrArgument for the configuration, an unreadable PIN included; hsm.ErrModule, hsm.ErrTokenNotFound,
// hsm.ErrPINIncorrect, hsm.ErrPINLocked; hsm.ErrUnsupported, as [*MissingError], for
// a token that cannot do what is needed; hsm.ErrUnavailable.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	var failed, told error // of the last login; the last that the log has
	for wait := firstLookAgain; ; wait = min(2*wait, longestLookAgain) {
		t, err := open(ctx, cfg, failed)
		if err == nil {
			return t, nil
		}
		again := mayMeanPIN(err) && failed != nil // two such logins are enough
		if mayMeanPIN(err) {
			failed = err
		}
		if again || !mayPass(err) || time.Since(begin) >= lookAgain {
			return nil, err
		}
		if told == nil || told.Error() != err.Error() {
			told = err
			cfg.Logger.WarnContext(ctx, "the token could not be opened; it is tried again", "error", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// errContradiction: crypto11 failed on a token that is there when it is asked directly.
var errContradiction = errors.New("crypto11 failed and the token is there")

// mayPass reports whether an attempt to open a token may succeed a moment later.
func mayPass(err error) bool {
	switch {
	case errors.Is(err, errCounted):
		return false
	case mayMeanPIN(err):
		return isCode(err, ckrGeneralError) // as SoftHSM2 says
	case errors.Is(err, hsm.ErrTokenNotFound), errors.Is(err, hsm.ErrUnavailable), errors.Is(err, errContradiction):
		return true
	default:
		return isCode(err, ckrNoPIN)
	}
}

// open is one attempt; failed is the error of the last login of those before it, if one failed.
func open(ctx context.Context, cfg Config, failed error) (*Token, error) {
	module, err := modules.attach(cfg.Module, cfg.InitArgs, selector{label: cfg.TokenLabel, serial: cfg.TokenSerial})
	if err != nil {
		return nil, err
	}
	t := &Token{
		cfg:     cfg,
		log:     cfg.Logger,
		module:  module,
		login:   login{sem: make(chan struct{}, 1), failed: failed},
		handles: newHandleTable(),
	}
	t.blockBytes.Store(int64(cfg.MaxBlockBytes))
	t.gcmCost.Store(int64(firstGCMCost))
	t.limitSessions()
	t.pool = newPool(t.cfg.Sessions, t.cfg.Lanes, t.openSession, t.closeSession)
	t.lane = newLane(t.cfg.Lanes)
	if err := t.start(ctx); err != nil {
		_ = t.Close()
		if isCode(err, pkcs11.CKR_SESSION_COUNT) {
			err = fmt.Errorf("the token allows too few sessions, or others have them: %d are needed at least: %w", leastSessions, err)
		}
		return nil, err
	}
	return t, nil
}

const (
	// otherSessions are those that a token needs beside the pool while it is opened: the
	// anchor, one that crypto11 keeps, and two of the probe.
	otherSessions = 2 + probeSessions
	probeSessions = 2
	// leastSessions are what a token needs that has one in the pool, and probes with it.
	leastSessions = otherSessions + 1
	// generatorSessions are those that crypto11 needs later beside the one that it keeps.
	generatorSessions = 1
)

// limitSessions lowers the configured numbers where the token allows fewer sessions: those of
// lanes first.
func (t *Token) limitSessions() {
	for _, limit := range []uint{t.module.token.MaxSessionCount, t.module.token.MaxRwSessionCount} {
		if limit == pkcs11.CK_EFFECTIVELY_INFINITE || limit == pkcs11.CK_UNAVAILABLE_INFORMATION {
			continue
		}
		t.fitSessions(int(min(limit, 1<<20)) - otherSessions)
	}
}

// fitSessions has the pool need no more than n sessions, but at least one.
func (t *Token) fitSessions(n int) {
	t.cfg.Sessions = max(1, min(t.cfg.Sessions, n))
	t.cfg.Lanes = max(0, min(t.cfg.Lanes, n-t.cfg.Sessions))
}

// start logs in, fills the pool, probes, and opens what lanes need. The login comes first and
// alone: a wrong PIN is tried once.
func (t *Token) start(ctx context.Context) error {
	switch flags := t.module.token.Flags; {
	case flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return fmt.Errorf("%w: the token says so; no login was tried", hsm.ErrPINLocked)
	case flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		t.log.WarnContext(ctx, "the token has one try left before it locks the PIN")
	}
	err := t.logIn(ctx)
	if c, _ := classOf(err); c != classPIN && mayMeanPIN(err) {
		// A supervisor that is told of a wrong PIN does not try it again and again.
		if counted := t.checkCount(); errors.Is(counted, errCounted) {
			return counted
		}
	}
	if errors.Is(err, errPINUnreadable) {
		return fmt.Errorf("%w: %w", hsm.ErrArgument, err)
	}
	if err != nil {
		return err
	}
	if err := t.fillPool(ctx); err != nil {
		return err
	}
	if err := t.probe(ctx); err != nil {
		return err
	}
	// The one enumeration at start.
	if _, err = t.Keys(ctx); err != nil {
		return err
	}
	return t.fillLanes(ctx)
}

// fillPool opens the sessions of the pool, and no more than leave those that the probe needs.
func (t *Token) fillPool(ctx context.Context) error {
	sessions, err := t.openUpTo(ctx, t.cfg.Sessions, probeSessions)
	if err == nil && sessions < t.cfg.Sessions {
		t.fewerSessions(ctx, max(1, sessions), 0)
	}
	return err
}

// fillLanes opens the sessions of lanes, after all that has greater need of them: no more than
// leave those for the generation of keys.
func (t *Token) fillLanes(ctx context.Context) error {
	if t.cfg.Lanes == 0 {
		return nil
	}
	lanes, err := t.openUpTo(ctx, t.cfg.Lanes, generatorSessions)
	if err == nil && lanes < t.cfg.Lanes {
		t.fewerSessions(ctx, t.cfg.Sessions, lanes)
	}
	return err
}

// openUpTo opens n sessions for the pool, or as many as leave some of those that the token
// allows. It fails if it can open none at all. Nobody may use any yet.
func (t *Token) openUpTo(ctx context.Context, n, leave int) (int, error) {
	before := t.pool.idleNow()
	opened, err := t.pool.fill(ctx, n+leave)
	if err != nil && (before+opened == 0 || !isCode(err, pkcs11.CKR_SESSION_COUNT)) {
		return 0, err
	}
	n = max(0, opened-leave)
	t.pool.trim(max(1, before+n))
	return n, nil
}

// fewerSessions makes do with so many sessions. Nobody may use any yet.
func (t *Token) fewerSessions(ctx context.Context, sessions, lanes int) {
	t.log.WarnContext(ctx, "the token allows fewer sessions than configured",
		"sessions", sessions, "configured", t.cfg.Sessions, "lanes", lanes, "configured_lanes", t.cfg.Lanes)
	t.cfg.Sessions, t.cfg.Lanes = sessions, lanes
	t.pool.shrink(sessions, lanes)
	t.lane = newLane(lanes)
}
