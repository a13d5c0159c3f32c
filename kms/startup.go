package kms

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/keyholt/keyholt/hsm"
)

// start brings metadata and token together.
func (s *Service) start(ctx context.Context) error {
	if err := s.makeDefaultNamespace(ctx); err != nil {
		return err
	}
	if err := s.resolveCreations(ctx); err != nil {
		return err
	}
	if err := s.compareObjects(ctx); err != nil {
		return err
	}
	return s.testProfiles(ctx)
}

// makeDefaultNamespace creates the default namespace in a store that is new.
func (s *Service) makeDefaultNamespace(ctx context.Context) error {
	if s.snapshot.Load().revision != 0 {
		return nil
	}
	name, err := NewNamespaceName(DefaultNamespace)
	if err != nil {
		return err
	}
	return s.commit(ctx, s.newNamespace(name, systemPrincipal().Name))
}

// resolveCreations removes what a crash left half made: no caller was ever told of it.
func (s *Service) resolveCreations(ctx context.Context) error {
	var halfMade []*versionEntry
	s.snapshot.Load().versions.Scan(func(_ string, v *versionEntry) bool {
		if v.State == StateCreating {
			halfMade = append(halfMade, v)
		}
		return true
	})
	for _, v := range halfMade {
		s.log.WarnContext(ctx, "removing a key version whose creation was interrupted",
			slog.String("key_version", v.Name.String()), slog.String("uid", v.UID.String()))
		if err := s.undoCreation(ctx, v); err != nil {
			return fmt.Errorf("remove the half-made %s: %w", v.Name, err)
		}
	}
	return nil
}

// compareObjects holds each version against its token object. Objects of versions that
// may not be used are switched off; nothing is ever switched on here: a version that
// is ENABLED while its object is off was tampered with, and is reported.
func (s *Service) compareObjects(ctx context.Context) error {
	objects, err := s.token.Keys(ctx)
	if err != nil {
		return tokenError(err, "list its keys")
	}
	byUID := make(map[hsm.UID]*hsm.Object, len(objects))
	for i := range objects {
		byUID[objects[i].UID] = &objects[i]
	}
	now := s.snapshot.Load()
	now.versions.Scan(func(_ string, v *versionEntry) bool {
		s.compareObject(ctx, v, byUID[v.UID])
		return true
	})
	s.reportOrphans(ctx, now, objects)
	return nil
}

func (s *Service) compareObject(ctx context.Context, v *versionEntry, object *hsm.Object) {
	why := ""
	switch {
	case object == nil:
		why = "its object is missing from the token"
	case object.Spec != v.profile.keySpec():
		why = "its token object is not of the kind that was made for it"
	case object.Extractable || !object.Sensitive:
		why = "its token object can be extracted"
	case v.State.usable() && !object.Usable && s.token.Info().UsageSwitch:
		why = "its token object was switched off behind the service's back, or the store was put back to a state from before " +
			"a revocation: enable the version again only if the audit log shows neither"
	case !v.State.usable() && object.Usable:
		s.switchOffAtStart(ctx, v)
	}
	if why == "" {
		return
	}
	v.live.fail(why)
	s.startup = append(s.startup, Finding{
		Area: "keys", Check: v.Name.String(), Severity: SeverityError,
		Detail: "the version is unavailable: " + why, Remedy: "restore the token from its backup, or revoke the version",
	})
	s.log.ErrorContext(ctx, "key version is unavailable",
		slog.String("key_version", v.Name.String()), slog.String("uid", v.UID.String()), slog.String("reason", why))
}

func (s *Service) switchOffAtStart(ctx context.Context, v *versionEntry) {
	outcome, err := s.switchObject(ctx, v, false)
	switch outcome {
	case SwitchDone:
		s.log.WarnContext(ctx, "switched off the token object of a version that may not be used",
			slog.String("key_version", v.Name.String()), slog.String("state", v.State.String()))
	case SwitchFailed:
		s.log.ErrorContext(ctx, "the token object of a version that may not be used cannot be switched off; "+
			"the service refuses it all the same",
			slog.String("key_version", v.Name.String()), slog.Any("error", causeOf(err)))
	}
}

// reportOrphans tells of objects that this store has labelled and that no row names.
func (s *Service) reportOrphans(ctx context.Context, now *Snapshot, objects []hsm.Object) {
	prefix := "keyholt:" + s.store.ID() + ":"
	for i := range objects {
		o := &objects[i]
		if !strings.HasPrefix(o.Label, prefix) || now.versionByUID(o.UID) != nil || o.UID.String() == s.sealer.KeyID() {
			continue
		}
		s.startup = append(s.startup, Finding{
			Area: "token", Check: "orphan", Severity: SeverityWarning,
			Detail: fmt.Sprintf("the token holds object %s (%s) of this store that no key version names", o.UID, o.Label),
			Remedy: "if the store was restored from a backup, what the object protects cannot be opened without its row",
		})
		s.log.WarnContext(ctx, "the token holds an object of this store that no key version names",
			slog.String("uid", o.UID.String()), slog.String("label", o.Label))
	}
}

// systemPrincipal is the service itself, in rows and records of what it does unasked.
func systemPrincipal() Principal { return Principal{Name: "system:kmsd", Method: MethodSystem} }
