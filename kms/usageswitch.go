package kms

import (
	"context"
	"errors"
	"log/slog"

	"github.com/keyholt/keyholt/hsm"
)

// switchObject turns the usage attributes of a version's object on or off. That the
// module cannot is no error; that it cannot with this object is one.
func (s *Service) switchObject(ctx context.Context, v *versionEntry, on bool) (TokenSwitch, error) {
	err := s.token.SetUsable(ctx, v.UID, on)
	switch {
	case err == nil:
		return SwitchDone, nil
	case errors.Is(err, hsm.ErrUnsupported) && !s.token.Info().UsageSwitch:
		return SwitchUnsupported, nil
	default:
		return SwitchFailed, tokenError(err, "switch the key object")
	}
}

// switchOff turns off the object of a version whose use its row has stopped. It goes on
// without its caller, and a failure is only logged: the row is what decides.
func (s *Service) switchOff(ctx context.Context, v *versionEntry) TokenSwitch {
	ctx, cancel := detached(ctx)
	defer cancel()
	outcome, err := s.switchObject(ctx, v, false)
	if err != nil {
		s.log.ErrorContext(ctx, "the token object of a version was not switched off; the service refuses it all the same",
			slog.String("key_version", v.Name.String()), slog.Any("error", causeOf(err)))
	}
	return outcome
}

// switchBackOff undoes the first half of an enabling that did not succeed.
func (s *Service) switchBackOff(ctx context.Context, v *versionEntry) {
	ctx, cancel := detached(ctx)
	defer cancel()
	if now := s.snapshot.Load().version(v.Name); now != nil && now.usable() {
		return
	}
	if _, err := s.switchObject(ctx, v, false); err != nil {
		s.log.ErrorContext(ctx, "the token object of a version that is not enabled may remain switched on until the next start",
			slog.String("key_version", v.Name.String()), slog.Any("error", causeOf(err)))
	}
}
