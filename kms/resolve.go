package kms

import (
	"context"
	"slices"
	"strings"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms/envelope"
)

// resolver finds the key version of each item of a call in one snapshot, and decides
// whether the caller may use it and whether its state allows it. Items of a batch
// mostly repeat the version of the one before, so the last answer is remembered.
type resolver struct {
	service  *Service
	ctx      context.Context //nolint:containedctx // lives for one call only
	snapshot *Snapshot
	call     *dataCall
	unknown  error // of ciphertexts whose version the snapshot does not have; nil: not accessible

	lastOpen struct {
		uid     envelope.UID
		version *versionEntry // nil: nothing is remembered
	}
	lastSeal struct {
		key     KeyName
		version *versionEntry
	}
}

// resolveOpens finds the version that opens each item.
func (r *resolver) resolveOpens() {
	r.learn()
	for i := range r.call.items {
		if it := &r.call.items[i]; it.err == nil {
			it.opened, it.err = r.open(it)
		}
	}
}

// learn catches up with the store if a ciphertext names a version that the snapshot does
// not have: another replica can have made it, and used it, a moment ago.
func (r *resolver) learn() {
	if r.service.replica.alone {
		return
	}
	for i := range r.call.items {
		it := &r.call.items[i]
		if it.err != nil || r.snapshot.versionByUID(hsm.UID(it.blob.UID)) != nil {
			continue
		}
		if err := r.service.replica.learn(r.ctx); err != nil {
			r.unknown = err
			return
		}
		r.snapshot = r.service.snapshot.Load()
		return
	}
}

func (r *resolver) open(it *item) (*versionEntry, error) {
	if it.blob.Kind != r.call.kind {
		return nil, wrongKind(it.blob.Kind)
	}
	if it.context == nil && r.lastOpen.version != nil && r.lastOpen.uid == it.blob.UID {
		return r.lastOpen.version, r.match(it, r.lastOpen.version)
	}
	version := r.snapshot.versionByUID(hsm.UID(it.blob.UID))
	if version == nil && r.unknown != nil {
		return nil, r.unknown
	}
	if version == nil || version.Name.Key().Namespace() != r.call.parent ||
		!r.allowed(r.call.openAction, version.Name.Key(), r.call.openContext(it)) {
		return nil, notAccessible()
	}
	if err := checkPurpose(r.call.openAction, version.Name.Key(), version.algorithm, PurposeEncryptDecrypt); err != nil {
		return version, err
	}
	if err := r.snapshot.refuses(version, r.call.openUse); err != nil {
		return version, err
	}
	if it.context == nil {
		r.lastOpen.uid, r.lastOpen.version = it.blob.UID, version
	}
	return version, r.match(it, version)
}

// match refuses a ciphertext of another key than the caller expects, and one whose
// format is not that of the version that it names: such bytes were tampered with.
func (r *resolver) match(it *item, version *versionEntry) error {
	if !it.expect.IsZero() && it.expect != version.Name.Key() {
		return errorf(ErrKeyMismatch, "the ciphertext was made by %s, not by %s", version.Name.Key(), it.expect).
			with("key_version", version.Name.String())
	}
	if it.blob.Format != version.profile.format() {
		return decryptionFailed()
	}
	return nil
}

// resolveSeals finds the version that seals each item that is to be sealed.
func (r *resolver) resolveSeals() {
	for i := range r.call.items {
		it := &r.call.items[i]
		if it.err != nil {
			continue
		}
		name := it.under
		if name.IsZero() && it.opened != nil {
			name = it.opened.Name.Key()
		}
		version, err := r.primary(it, name)
		if r.call.seals == sealOld && version == it.opened {
			continue
		}
		it.sealed = version
		it.failSeal(r.call, err)
	}
}

// primary finds the primary version of a key and says whether it may seal. A version
// that may not is returned too, for the record.
func (r *resolver) primary(it *item, name KeyName) (*versionEntry, error) {
	if it.context == nil && r.lastSeal.version != nil && r.lastSeal.key == name {
		return r.lastSeal.version, nil
	}
	if name.Namespace() != r.call.parent || !r.allowed(r.call.sealAction, name, r.call.sealContext(it)) {
		return nil, notAccessible()
	}
	key := r.snapshot.key(name)
	if key == nil {
		return nil, keyNotFound(name)
	}
	if err := checkPurpose(r.call.sealAction, name, key.Algorithm, PurposeEncryptDecrypt); err != nil {
		return nil, err
	}
	version := key.primary()
	if version == nil {
		return nil, noPrimaryYet(name)
	}
	if err := r.snapshot.refuses(version, useSeal); err != nil {
		return version, err
	}
	if it.context == nil {
		r.lastSeal.key, r.lastSeal.version = name, version
	}
	return version, nil
}

// confirm decides again whether a version that was used may have been.
func (r *resolver) confirm(a Action, u use, used *versionEntry, context map[string]string) error {
	version := r.snapshot.versionByUID(used.UID)
	if version == nil || !r.allowed(a, version.Name.Key(), context) {
		return notAccessible()
	}
	return r.snapshot.refuses(version, u)
}

func (r *resolver) allowed(a Action, key KeyName, context map[string]string) bool {
	return r.service.permitted(r.ctx, r.snapshot, r.call.principal, a, key.Namespace(), key, context)
}

// refuses says why a version that was found as its key's primary, or by the ciphertext
// that names it, cannot be used for u. Only primary versions seal, so a refusal to seal is
// the key's lack of a primary.
func (s *Snapshot) refuses(v *versionEntry, u use) error {
	why := s.whyNot(v, u)
	switch {
	case why == nil:
		return nil
	case u&useSeal != 0:
		return noEnabledPrimary(v, why)
	default:
		return why
	}
}

// whyNot says why a version cannot be used for u: its state, its token object, or that it
// is not known how often it was used; nil: it can.
func (s *Snapshot) whyNot(v *versionEntry, u use) *Error {
	switch unavailable := v.live.whyUnavailable(); {
	case !v.State.allows(u):
		return v.stateError()
	case v.destroying(): // its row does not tell any more whether it was REVOKED
		return errorf(ErrVersionDestroyed, "the destruction of %s has begun", v.Name).with("key_version", v.Name.String())
	case unavailable != "" && u&objectUses != 0:
		return v.unavailable(unavailable)
	case u&useSeal != 0 && v.profile == ProfileStrict && v.Epoch != s.epoch():
		return v.uncounted("the store was restored or rolled back since it was made")
	case u&useSeal != 0 && v.profile == ProfileStrict && v.Imported:
		return v.uncounted("it was imported, and may have been used elsewhere")
	default:
		return nil
	}
}

// checkPurpose refuses an action that keys of an algorithm are not for.
func checkPurpose(a Action, key KeyName, algorithm Algorithm, wanted ...Purpose) error {
	if slices.Contains(wanted, algorithm.Purpose()) {
		return nil
	}
	names := make([]string, len(wanted))
	for i, p := range wanted {
		names[i] = p.String()
	}
	return errorf(ErrPurpose, "%s is a key for %s (%s): %s is for keys of %s", key, algorithm.Purpose(), algorithm, a,
		strings.Join(names, " or ")).
		with("key", key.String()).with("purpose", algorithm.Purpose().String()).with("algorithm", algorithm.String())
}

func noPrimaryYet(name KeyName) *Error {
	return errorf(ErrNoEnabledPrimary, "%s has no primary version yet", name)
}

func (v *versionEntry) unavailable(why string) *Error {
	return errorf(ErrVersionUnavailable, "%s is unavailable: %s", v.Name, why).with("key_version", v.Name.String())
}

// uncounted tells that it is not known how many encryptions a STRICT version has made, and
// nonces of 96 random bits allow only so many: it was imported, or is from before the store
// was put to an older state.
func (v *versionEntry) uncounted(why string) *Error {
	return errorf(ErrEncryptionLimit, "it is not known how many ciphertexts %s has made: %s; rotate the key", v.Name, why).
		with("key_version", v.Name.String())
}

// stateError tells the state of a version that forbids what was asked for, with the
// reason that was given for it and its time.
func (v *versionEntry) stateError() *Error {
	message := v.Name.String() + " is " + v.State.String() + " since " + timeText(v.StateTime)
	if v.StateReason != "" {
		message += ": " + v.StateReason
	}
	return &Error{Sentinel: states[v.State].refusal, Message: message, Metadata: map[string]string{
		"key_version":  v.Name.String(),
		"state":        v.State.String(),
		"state_time":   timeText(v.StateTime),
		"state_reason": v.StateReason,
	}}
}

// noEnabledPrimary tells that a key cannot make new ciphertext, and why.
func noEnabledPrimary(version *versionEntry, why error) *Error {
	message := version.Name.Key().String() + " has no enabled primary version: " + why.Error()
	if version.State == StateEnabled {
		message = "the primary version of " + version.Name.Key().String() + " protects nothing new: " + why.Error()
	}
	return (&Error{Sentinel: ErrNoEnabledPrimary, Message: message, Cause: why}).
		with("key_version", version.Name.String()).with("state", version.State.String())
}

func keyNotFound(name KeyName) *Error { return errorf(ErrKeyNotFound, "%s does not exist", name) }

func decryptionFailed() *Error {
	return errorf(ErrDecryptionFailed, "the ciphertext does not open: it was changed, or the encryption context or "+
		"additional authenticated data is not the one it was made with")
}

func wrongKind(kind envelope.Kind) *Error {
	if kind == envelope.KindWrappedKey {
		return errorf(ErrCiphertextKind, "this is a wrapped data key: use UnwrapDataKeys")
	}
	return errorf(ErrCiphertextKind, "this is encrypted data, not a wrapped data key: use Decrypt")
}

// format is the envelope format of the ciphertexts of a profile.
func (p Profile) format() envelope.Format {
	if p == ProfileStrict {
		return envelope.FormatStrict
	}
	return envelope.FormatDerived
}
