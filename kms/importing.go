package kms

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// ImportKeyVersionRequest asks for a key version that is a key of the caller's.
type ImportKeyVersionRequest struct {
	// Key gets the version; its algorithm, and protection profile, are that of the key that
	// is brought in.
	Key KeyName
	// New makes Key with the version, its first, which becomes primary: so no key is ever
	// without a version, and none of the token's making comes before the caller's. nil: Key
	// exists.
	New *NewKey
	// Job is an ACTIVE import job of Key's namespace.
	Job ImportJobName
	// WrappedKey is the key, wrapped as the job's method says.
	WrappedKey []byte
	// PublicKey is the public key of a pair, DER of a PKIX SubjectPublicKeyInfo. It is
	// compared with the private key; without it the token finds it out, but for
	// EC_SIGN_ED25519, which needs it.
	PublicKey []byte
	// MakePrimary makes the version of an existing key primary at once; it is for later
	// rotations if it is not set: what the key has protected elsewhere can be opened, and
	// nothing new uses it unless it is named.
	MakePrimary bool
	RequestID   string // a UUID, or empty
}

// NewKey is a key to be made; its fields are as in CreateKeyRequest.
type NewKey struct {
	Purpose        Purpose
	Algorithm      Algorithm
	Profile        Profile
	Labels         map[string]string
	RotationPeriod time.Duration // 0: by hand only
}

// ImportKeyVersionResult is the version that was made and its key.
type ImportKeyVersionResult struct {
	Version *VersionInfo
	Key     *KeyInfo
	Spread  Spread
}

// ImportKeyVersion makes a key version of a key that was made elsewhere: it is unwrapped
// inside the token, in two steps, and the host never sees it. The version is marked as
// imported for ever: others may have copies. One of a STRICT key makes no new ciphertext:
// how many the key has made elsewhere is not known, and its nonces allow only so many. To
// make a key with it the caller must also be allowed CreateKey. A call repeated with the same
// request id returns the version that the first made. When it returns, all replicas know the
// version. Errors: ErrKeyNotFound, ErrKeyExists, ErrImportJobNotFound, ErrImportJobExpired,
// ErrImportJobUnavailable, ErrWrappedKey, ErrUnsupported, ErrRequestIDReused,
// ErrStillSpreading.
func (s *Service) ImportKeyVersion(ctx context.Context, p Principal, r *ImportKeyVersionRequest) (*ImportKeyVersionResult, error) {
	var result *ImportKeyVersionResult
	key, invalid := r.newKey()
	call := &controlCall{
		principal: p, action: ActionImportVersion, namespace: r.Key.Namespace(), key: r.Key, resource: r.Key.String(), importJob: r.Job,
		invalid: firstError(required("parent", r.Key.IsZero()), required("import_job", r.Job.IsZero()), invalid,
			r.checkJob(), r.checkSizes(), checkRequestID(r.RequestID)),
	}
	call.work = func(ctx context.Context) error {
		var imported *ImportKeyVersionResult
		var revision Revision
		importIt := func(ctx context.Context) (err error) {
			imported, revision, err = s.importVersion(ctx, p, r, key)
			return err
		}
		if key != nil { // which is a thing of its own to be allowed, and is recorded as such
			work := importIt
			importIt = func(ctx context.Context) error {
				return s.perform(ctx, &controlCall{
					principal: p, action: ActionCreateKey, namespace: r.Key.Namespace(), key: r.Key, resource: r.Key.String(), work: work,
				})
			}
		}
		if err := importIt(ctx); err != nil {
			return err
		}
		call.resource = imported.Version.Name.String()
		var err error
		if imported.Spread, err = s.spread(ctx, revision); err == nil {
			result = imported
		}
		call.spread = &imported.Spread
		return err
	}
	if err := s.perform(ctx, call); err != nil {
		return nil, err
	}
	return result, nil
}

// newKey is the request for the key that is to be made, with its defaults; nil: none is.
func (r *ImportKeyVersionRequest) newKey() (*CreateKeyRequest, error) {
	if r.New == nil {
		return nil, nil //nolint:nilnil // no key is to be made
	}
	key := CreateKeyRequest{
		Name: r.Key, Purpose: r.New.Purpose, Algorithm: r.New.Algorithm, Profile: r.New.Profile,
		Labels: r.New.Labels, RotationPeriod: r.New.RotationPeriod,
	}
	if r.Key.IsZero() {
		return &key, nil // which another check refuses
	}
	return key.withDefaults()
}

func (r *ImportKeyVersionRequest) checkJob() error {
	if !r.Key.IsZero() && r.Job.Namespace() != r.Key.Namespace() {
		return Invalid(Violation{"import_job", "is of another namespace than the key"})
	}
	if r.New != nil && r.MakePrimary {
		return Invalid(Violation{"make_primary", "is for existing keys: the first version of a new key is its primary one"})
	}
	return nil
}

// MaxWrappedKey is the most bytes of a wrapped key: an RSA ciphertext and what AES key wrap
// made of an RSA-4096 key.
const MaxWrappedKey = 512 + hsm.MaxWrapped

// maxImportPublicKey is the most bytes of the public key that comes with an import.
const maxImportPublicKey = 1024

func (r *ImportKeyVersionRequest) checkSizes() error {
	switch {
	case len(r.WrappedKey) == 0:
		return required("wrapped_key", true)
	case len(r.WrappedKey) > MaxWrappedKey:
		return tooMuch("wrapped_key", "%d bytes are more than %d", len(r.WrappedKey), MaxWrappedKey)
	case len(r.PublicKey) > maxImportPublicKey:
		return tooMuch("public_key", "%d bytes are more than %d", len(r.PublicKey), maxImportPublicKey)
	}
	return nil
}

// importVersion does the work of an import, and returns the revision that has to spread.
// create is the key to make; nil: it exists.
func (s *Service) importVersion(
	ctx context.Context, p Principal, r *ImportKeyVersionRequest, create *CreateKeyRequest,
) (*ImportKeyVersionResult, Revision, error) {
	unlock, err := s.lockKey(ctx, r.Key)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	c := &creation{principal: p, requestID: r.RequestID, digest: r.digest(create), aside: !r.MakePrimary}
	if key := s.snapshot.Load().key(r.Key); key != nil {
		done, err := key.repeated(c.requestID, c.digest)
		if err != nil {
			return nil, 0, err
		}
		if done != nil {
			now := s.snapshot.Load()
			return s.importResult(now, done.Name), now.Revision(), nil
		}
		if last := key.versions[len(key.versions)-1]; last.State == StateCreating {
			// What an earlier attempt left and could not clear away.
			if err := s.undoCreation(ctx, last); err != nil {
				return nil, 0, err
			}
		}
	}
	now := s.snapshot.Load()
	if err := s.importInto(now, r, create, c); err != nil {
		return nil, 0, err
	}
	if c.imported, err = s.wrapped(ctx, now, r, c.key); err != nil {
		return nil, 0, err
	}
	revision, err := s.makeVersion(ctx, c)
	if err != nil {
		return nil, 0, err
	}
	return s.importResult(s.snapshot.Load(), r.Key.Version(c.number)), revision, nil
}

// importInto fills in which version of which key is made.
func (s *Service) importInto(now *Snapshot, r *ImportKeyVersionRequest, create *CreateKeyRequest, c *creation) error {
	key := now.key(r.Key)
	switch {
	case create != nil && key != nil:
		return errorf(ErrKeyExists, "%s exists already", r.Key)
	case create != nil:
		c.number = 1
		c.key = &Key{
			Name: create.Name, Purpose: create.Purpose, Algorithm: create.Algorithm, Profile: create.Profile,
			Labels: maps.Clone(create.Labels), RotationPeriod: create.RotationPeriod, CreateTime: s.now(), CreatedBy: c.principal.Name,
		}
	case key == nil || key.Primary == 0:
		return keyNotFound(r.Key)
	case key.Profile == ProfileStrict && r.MakePrimary:
		return Invalid(Violation{"make_primary", "an imported version of a STRICT key makes no new ciphertext: how many the key has made elsewhere " +
			"is not known"})
	default:
		c.number, c.key = uint32(len(key.versions))+1, key.Key
	}
	return nil
}

// wrapped is what the token is asked to unwrap, after all that can be known before it is.
func (s *Service) wrapped(ctx context.Context, now *Snapshot, r *ImportKeyVersionRequest, key *Key) (*hsm.Wrapped, error) {
	job := now.importJob(r.Job)
	switch {
	case job == nil:
		return nil, importJobNotFound(r.Job)
	case job.State == ImportJobCreating:
		return nil, importJobUnavailable(r.Job, "it is being created")
	case job.expired(s.now()):
		return nil, errorf(ErrImportJobExpired, "%s expired at %s: create another, and wrap the key for it", r.Job, timeText(job.ExpireTime)).
			with("import_job", r.Job.String()).with("expire_time", timeText(job.ExpireTime))
	}
	if err := s.checkImportable(key.Algorithm, key.Profile); err != nil {
		return nil, err
	}
	size := job.Method.ModulusSize()
	if len(r.WrappedKey) <= size {
		return nil, errorf(ErrWrappedKey, "a key wrapped by %s has %d bytes of RSA ciphertext first and the key after them, this one has %d in all",
			job.Method, size, len(r.WrappedKey))
	}
	w := &hsm.Wrapped{
		By: job.UID, Hash: job.Method.Hash(), Key: r.WrappedKey[:size], Value: r.WrappedKey[size:], PublicKey: r.PublicKey,
	}
	if _, err := hsm.CheckWrapped(key.Algorithm.KeySpec(key.Profile), w); err != nil {
		return nil, importError(err, key.Algorithm)
	}
	return w, s.checkWrappingKey(ctx, job)
}

// checkWrappingKey makes sure that the wrapping key of a job is the one that was made for
// it, and kept as then: of another, somebody might have a copy.
func (s *Service) checkWrappingKey(ctx context.Context, job *ImportJob) error {
	object, err := s.token.Key(ctx, job.UID)
	switch {
	case errors.Is(err, hsm.ErrKeyNotFound):
		return importJobUnavailable(job.Name, "its wrapping key is missing from the token")
	case err != nil:
		return tokenError(err, "look up the wrapping key")
	case object.Spec != job.Method.row().spec || object.Extractable || !object.Sensitive:
		return importJobUnavailable(job.Name, "the token object with its UID is not its wrapping key")
	}
	now := attributesOf(&object)
	if weaker := now.weakerThan(&job.Attributes); weaker != "" {
		return importJobUnavailable(job.Name, "its wrapping key is weaker than it was made: "+weaker)
	}
	public, err := s.token.PublicKey(ctx, job.UID)
	switch {
	case errors.Is(err, hsm.ErrKeyNotFound):
		return importJobUnavailable(job.Name, "its public key object is missing from the token")
	case err != nil:
		return tokenError(err, "tell a public key")
	case !bytes.Equal(public, job.PublicKey):
		return importJobUnavailable(job.Name, "the token's public key with its UID is not that of its wrapping key")
	}
	return nil
}

// importError turns an error of the token into one of the domain. What is wrong with a
// wrapped key is told in one way, whatever it is.
func importError(err error, a Algorithm) error {
	switch {
	case errors.Is(err, hsm.ErrArgument), errors.Is(err, hsm.ErrAuthentication):
		return errorf(ErrWrappedKey, "the wrapped key does not open with the wrapping key of the import job, or is none of %s", a).
			with("algorithm", a.String()).because(err)
	case errors.Is(err, hsm.ErrKeyNotFound), errors.Is(err, hsm.ErrKeyNotPermitted):
		return errorf(ErrImportJobUnavailable, "the token does not hold the wrapping key any more, or refuses its use").because(err)
	default:
		return tokenError(err, "import a key of "+a.String())
	}
}

func importJobUnavailable(name ImportJobName, why string) *Error {
	return errorf(ErrImportJobUnavailable, "%s is unavailable: %s", name, why).with("import_job", name.String())
}

func (s *Service) importResult(now *Snapshot, name VersionName) *ImportKeyVersionResult {
	return &ImportKeyVersionResult{Version: s.versionInfo(now, now.version(name)), Key: now.key(name.Key()).info()}
}

// digest identifies what a request with an id asked for.
func (r *ImportKeyVersionRequest) digest(create *CreateKeyRequest) []byte {
	fields := []string{"ImportKeyVersion", r.Key.String(), r.Job.String(), string(r.WrappedKey), string(r.PublicKey)}
	if create != nil {
		return digestFields(append(fields, "new", string(create.digest()))...)
	}
	if r.MakePrimary {
		fields = append(fields, "make_primary")
	}
	return digestFields(fields...)
}
