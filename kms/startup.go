package kms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"

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
	return s.testAlgorithms(ctx)
}

// makeDefaultNamespace creates the default namespace in a store that is new.
func (s *Service) makeDefaultNamespace(ctx context.Context) error {
	if s.snapshot.Load().namespaces.Len() != 0 {
		return nil
	}
	name, err := NewNamespaceName(DefaultNamespace)
	if err != nil {
		return err
	}
	create := s.newNamespace(name, systemPrincipal().Name)
	_, err = s.commit(ctx, func(now *Snapshot) (*Change, error) {
		if now.namespaces.Len() != 0 {
			return nil, nil // another replica was first
		}
		return create(now)
	})
	return err
}

// resolveCreations removes what a crash left half made: no caller was ever told of it.
// What another replica is making now is left to it: it holds the lock of the key.
func (s *Service) resolveCreations(ctx context.Context) error {
	var halfMade []*versionEntry
	s.snapshot.Load().versions.Scan(func(_ string, v *versionEntry) bool {
		if v.State == StateCreating {
			halfMade = append(halfMade, v)
		}
		return true
	})
	for _, v := range halfMade {
		unlock, free, err := s.tryLockStore(ctx, "key/"+v.Name.Key().String())
		if err != nil {
			return err
		}
		if !free {
			continue
		}
		err = s.resolveCreation(ctx, v)
		unlock()
		if err != nil {
			return err
		}
	}
	return s.resolveImportJobs(ctx)
}

// resolveImportJobs does the same for import jobs.
func (s *Service) resolveImportJobs(ctx context.Context) error {
	var halfMade []*ImportJob
	s.snapshot.Load().importJobs.Scan(func(_ string, job *ImportJob) bool {
		if job.State == ImportJobCreating {
			halfMade = append(halfMade, job)
		}
		return true
	})
	for _, job := range halfMade {
		unlock, free, err := s.tryLockStore(ctx, importJobLock(job.Name))
		if err != nil {
			return err
		}
		if !free {
			continue
		}
		err = s.abandonImportJob(ctx, job)
		unlock()
		if err != nil {
			return fmt.Errorf("remove the half-made %s: %w", job.Name, err)
		}
		s.log.WarnContext(ctx, "resolved an import job whose creation was interrupted", slog.String("import_job", job.Name.String()))
	}
	return nil
}

func (s *Service) resolveCreation(ctx context.Context, v *versionEntry) error {
	if err := s.refresh(ctx); err != nil {
		return err
	}
	if now := s.snapshot.Load().versionByUID(v.UID); now != nil && now.State == StateCreating {
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
	var odd []*versionEntry
	now.versions.Scan(func(_ string, v *versionEntry) bool {
		var why string
		if why, err = s.lookAt(ctx, v, byUID[v.UID]); why != fitting {
			odd = append(odd, v)
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	for _, v := range odd {
		if err := s.compareObject(ctx, v); err != nil {
			return err
		}
	}
	return s.reportOrphans(ctx, objects)
}

// compareObject looks at a version and its object again, while no other replica changes
// its state, and reports or mends what does not fit.
func (s *Service) compareObject(ctx context.Context, v *versionEntry) error {
	unlock, err := s.lockStore(ctx, "version/"+v.Name.String())
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.refresh(ctx); err != nil {
		return err
	}
	if v = s.snapshot.Load().versionByUID(v.UID); v == nil {
		return nil
	}
	var object *hsm.Object
	switch found, err := s.token.Key(ctx, v.UID); {
	case err == nil:
		object = &found
	case !errors.Is(err, hsm.ErrKeyNotFound):
		return tokenError(err, "look up a key")
	}
	why, err := s.lookAt(ctx, v, object)
	if err != nil {
		return err
	}
	switch why {
	case fitting:
	case stillOn:
		s.switchOffAtStart(ctx, v)
	default:
		s.reportVersion(ctx, v, why)
	}
	return nil
}

// What lookAt finds, when it is no fault.
const (
	fitting = ""
	stillOn = "its token object is on although it may not be used"
)

// switchedOff is the fault of a version that may be used and whose object is off.
const switchedOff = "its token object was switched off behind the service's back, or the store was put back to a state from before " +
	"a revocation: enable the version again only if the audit log shows neither"

// lookAt says what does not fit between a version and its token object; nil: there is
// none. Of a pair it asks the token for the public key.
func (s *Service) lookAt(ctx context.Context, v *versionEntry, object *hsm.Object) (string, error) {
	if why := s.lookAtObject(v, object); why != fitting && why != stillOn || object == nil || !v.keySpec().IsPair() ||
		v.State == StateCreating {
		return why, nil
	}
	der, err := s.token.PublicKey(ctx, v.UID)
	switch {
	case errors.Is(err, hsm.ErrKeyNotFound):
		return "its public key object is missing from the token", nil
	case err != nil:
		return "", tokenError(err, "tell a public key")
	case !bytes.Equal(der, v.Check):
		return "the token's public key with its UID is not the one that was made for it", nil
	default:
		return s.lookAtObject(v, object), nil
	}
}

func (s *Service) lookAtObject(v *versionEntry, object *hsm.Object) string {
	if v.State == StateCreating || (v.State == StateDestroyed || v.destroying()) && object == nil {
		return fitting
	}
	switch {
	case v.State == StateDestroyed:
		return "it is DESTROYED, but the token holds an object of its UID"
	case object == nil:
		return "its object is missing from the token"
	case object.Spec != v.keySpec():
		return "its token object is not of the kind that was made for it"
	case object.Extractable || !object.Sensitive:
		return "its token object can be extracted"
	}
	now := attributesOf(object)
	if weaker := now.weakerThan(&v.Attributes); weaker != "" {
		return "its token object is weaker than it was made: " + weaker
	}
	switch {
	case v.usable() && !object.Usable && s.token.Info().UsageSwitch:
		return switchedOff
	case !v.usable() && object.Usable:
		return stillOn
	default:
		return fitting
	}
}

func (s *Service) reportVersion(ctx context.Context, v *versionEntry, why string) {
	v.live.fail(why)
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

// reportOrphans tells of those among the token's objects that this store has labelled and
// that no row names.
func (s *Service) reportOrphans(ctx context.Context, objects []hsm.Object) error {
	orphans, err := s.orphansAmong(ctx, objects)
	if err != nil {
		return err
	}
	for _, o := range orphans {
		s.startup = append(s.startup, Finding{
			Area: "token", Check: "orphan", Severity: SeverityWarning,
			Detail: fmt.Sprintf("the token holds object %s (%s) of this store that no key version names", o.UID, o.Label),
			Remedy: "if the store was restored from a backup, what the object protects cannot be opened without its row; " +
				"else kmsctl hsm orphans --delete removes it",
		})
		s.log.WarnContext(ctx, "the token holds an object of this store that no key version names",
			slog.String("uid", o.UID.String()), slog.String("label", o.Label))
	}
	return nil
}

// systemPrincipal is the service itself, in rows and records of what it does unasked.
func systemPrincipal() Principal { return Principal{Name: "system:kmsd", Method: MethodSystem} }
