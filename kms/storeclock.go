package kms

import (
	"context"
	"time"
)

// A destruction cannot be taken back, so the clock of one machine alone does not bring it on:
// where the store has a server of its own, that server's clock has to agree. Nothing else
// depends on clocks that much.

// clocksApart is how far the clock of the store's server may be behind or ahead of ours
// without being asked.
const clocksApart = time.Minute

// storeTime is the time by the clock of the store's server; ours, where it has none.
func (s *Service) storeTime(ctx context.Context) (time.Time, error) {
	if s.store.Exclusive() {
		return s.now(), nil
	}
	at, err := s.store.Clock(ctx)
	if at.IsZero() {
		at = s.now()
	}
	return at, err
}

// windowBegin is from when on the window of a destruction counts: now, and not less because
// our clock is behind.
func (s *Service) windowBegin(ctx context.Context) (time.Time, error) {
	theirs, err := s.storeTime(ctx)
	if ours := s.now(); theirs.Sub(ours) <= clocksApart {
		return ours, err
	}
	return theirs.Truncate(time.Microsecond), err
}

// checkDue refuses a destruction whose time has come by our clock only.
func (s *Service) checkDue(ctx context.Context, due time.Time) error {
	theirs, err := s.storeTime(ctx)
	if err != nil {
		return err
	}
	if early := due.Sub(theirs); early > clocksApart {
		return errorf(ErrConflict, "by the clock of the store's server its time comes in %v: one of the clocks is wrong",
			early.Round(time.Second))
	}
	return nil
}
