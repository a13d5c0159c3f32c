package kms

import (
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" //nolint:gosec // of RSA-OAEP, which does not rest on collisions
	_ "crypto/sha256"
	"errors"
	"fmt"

	"github.com/keyholt/keyholt/hsm"
)

// CheckPublicKey refuses a public key, DER of a PKIX SubjectPublicKeyInfo, that is none of
// the algorithm's, before its private key is wrapped: the service, which must not tell what
// is wrong with a wrapped key, says less. The error is ErrInvalidRequest.
func (a Algorithm) CheckPublicKey(der []byte) error {
	public, err := hsm.ParsePublicKey(a.KeySpec(0), der)
	if err != nil {
		return Invalid(Violation{"key", "is no key of " + a.String()}).because(errors.Unwrap(err))
	}
	if err := hsm.CheckImportedModulus(public); err != nil {
		return Invalid(Violation{"key", "is easily broken: the modulus has small factors, or such that are close to each other"}).because(err)
	}
	return nil
}

// Wrap wraps a key for ImportKeyVersion, as ImportMethod says: the bytes of a secret key, or
// the PKCS#8 PrivateKeyInfo of a pair, DER. It is computed where it is called, and asks no
// service; the AES-256 key between is wiped. The error is ErrInvalidRequest.
func (j *ImportJob) Wrap(key []byte) ([]byte, error) {
	if !j.Method.Valid() || j.State != ImportJobActive {
		return nil, Invalid(Violation{"import_job", "is " + j.State.String() + ": nothing is wrapped for it"})
	}
	parsed, err := hsm.ParsePublicKey(j.Method.row().spec, j.PublicKey)
	public, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, Invalid(Violation{"import_job.public_key", "is none of " + j.Method.String()}).because(errors.Unwrap(err))
	}
	var kek [32]byte
	defer clear(kek[:])
	if _, err := rand.Read(kek[:]); err != nil {
		return nil, err
	}
	value, err := hsm.WrapAES(kek[:], key)
	if err != nil {
		return nil, Invalid(Violation{"key", "is empty or too long"})
	}
	wrapped, err := rsa.EncryptOAEP(j.Method.Hash().New(), rand.Reader, public, kek[:], nil)
	if err != nil {
		return nil, Invalid(Violation{"import_job.public_key", "cannot be used"}).because(err)
	}
	return append(wrapped, value...), nil
}

// CheckWrapped refuses what Wrap does not make of any key of the algorithm, by its length
// alone: what somebody else has wrapped is known to be of the right form before it is sent,
// and most of what is not wrapped at all is not sent. The error is ErrInvalidRequest.
func (j *ImportJob) CheckWrapped(a Algorithm, wrapped []byte) error {
	rsaPart, spec := j.Method.ModulusSize(), a.KeySpec(ProfileDerived) // keys of both profiles are of one size
	refused := func(want string) error {
		return Invalid(Violation{"wrapped_key", fmt.Sprintf("has %d bytes: a key of %s, wrapped by %s, has %d of RSA ciphertext and after them %s of AES key wrap",
			len(wrapped), a, j.Method, rsaPart, want)})
	}
	value := len(wrapped) - rsaPart
	switch {
	case !j.Method.Valid() || !spec.Valid():
		return Invalid(Violation{"wrapped_key", "is of a method or an algorithm that is not known here"})
	case !spec.IsPair() && value != spec.Size()+8:
		return refused(fmt.Sprint(spec.Size() + 8))
	case value < 16 || value > hsm.MaxWrapped || value%8 != 0: // RFC 5649, section 4.1
		return refused("16 or more, a multiple of 8,")
	}
	return nil
}
