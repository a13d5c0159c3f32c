package pkcs11hsm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/keyholt/keyholt/hsm"
)

// errOtherPair: the public key that came with a private key belongs to another.
var errOtherPair = fmt.Errorf("%w: the public key does not belong to the private key", hsm.ErrArgument)

// provePair makes sure that public belongs to the private key, by a signature or a
// decryption that the token makes. Without a public key it finds one out. The caller holds
// module.calls.
func (t *Token) provePair(s *session, private *found, spec hsm.KeySpec, public any) (any, error) {
	if spec.IsRSA() {
		reported, err := private.attributes.publicKey(spec)
		if err != nil { // a modulus or an exponent that no key of the specification has
			return nil, fmt.Errorf("%w: %v", hsm.ErrArgument, err)
		}
		if given, ok := public.(*rsa.PublicKey); ok && !given.Equal(reported) {
			return nil, errOtherPair
		}
		public = reported
		if err := hsm.CheckPublicKey(spec, public); err != nil {
			return nil, err
		}
		if err := hsm.CheckImportedModulus(public); err != nil {
			return nil, err
		}
	}
	if spec.Usage() == hsm.UsageDecrypt {
		return public, t.proveDecryption(s, private.handle, spec, public)
	}
	if public == nil {
		recovered, err := t.recoverPublicKey(s, private.handle, spec)
		if err != nil {
			return nil, err
		}
		public = recovered
	}
	return public, t.proveSignature(s, private.handle, spec, public)
}

// proveSecret uses a secret key that was unwrapped once: modules look at its length no
// sooner.
func (t *Token) proveSecret(s *session, h objectHandle, spec hsm.KeySpec) error {
	var err error
	switch spec.Usage() {
	case hsm.UsageMAC:
		items := []item{{input: []byte("keyholt")}}
		_, err = t.cross(s, h, macOperation(spec, t), items, []int{0})
		if err == nil {
			err = items[0].err
		}
	case hsm.UsageGCM:
		job := &sealJob{[]hsm.SealItem{{Plaintext: []byte("keyholt"), AAD: []byte("keyholt")}}}
		_, err = t.crossGCM(s, h, job, []int{0})
		if err == nil {
			err = job.items[0].Err
		}
	default:
		block := make([]byte, hsm.BlockSize)
		err = crossed(t.module.lib.encryptBlocks(s.handle, h, block, make([]byte, hsm.BlockSize)))
	}
	return t.unfit(s, spec, err)
}

// unfit makes ErrArgument of what the token says of a key that it has unwrapped and cannot
// use: tokens take keys that are none (a private key of zero, an exponent of one) and fail
// when they are to work with them. What tells of a lost session or token stays as it is.
func (t *Token) unfit(s *session, spec hsm.KeySpec, err error) error {
	if err == nil || errors.Is(err, hsm.ErrArgument) {
		return err
	}
	var e *callError
	if errors.As(err, &e) {
		if e.class == classAsk {
			e = t.diagnose(s, e)
		}
		if e.class.isLoss() || e.class == classForbidden && spec.IsPair() { // the latter: the module has not kept the template
			return e
		}
	}
	return fmt.Errorf("%w: the wrapped key is no %s: %v", hsm.ErrArgument, spec, err)
}

// proveSignature has a random digest or message signed, and verifies it.
func (t *Token) proveSignature(s *session, h objectHandle, spec hsm.KeySpec, public any) error {
	scheme := spec.Schemes()[0]
	input := randomInput(spec, scheme)
	signature, err := t.signOne(s, h, spec, scheme, input)
	if err != nil {
		return err
	}
	if !verifies(public, scheme, input, signature) {
		return errOtherPair
	}
	return nil
}

// proveDecryption has the token decrypt what was encrypted here.
func (t *Token) proveDecryption(s *session, h objectHandle, spec hsm.KeySpec, public any) error {
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return errOtherPair
	}
	hash := t.info.OAEP[0]
	plaintext := randomInput(spec, hsm.PureEd25519)
	ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, key, plaintext, nil)
	if err != nil {
		return fmt.Errorf("%w: the public key: %w", hsm.ErrArgument, err)
	}
	items := []item{{input: ciphertext}}
	if _, err := t.cross(s, h, oaepOperation(spec, hash, nil, t), items, []int{0}); err != nil {
		return err
	}
	if items[0].err != nil || !bytes.Equal(items[0].output, plaintext) {
		return errOtherPair
	}
	return nil
}

// signOne is one signature in a session that the caller has. The caller holds module.calls.
func (t *Token) signOne(s *session, h objectHandle, spec hsm.KeySpec, scheme hsm.Scheme, input []byte) ([]byte, error) {
	items := []item{{input: toBeSigned(scheme, input)}}
	if _, err := t.cross(s, h, signOperation(spec, scheme, t), items, []int{0}); err != nil {
		return nil, err
	}
	return items[0].output, items[0].err
}

// randomInput is what the scheme signs: a digest of its length, or a message.
func randomInput(spec hsm.KeySpec, scheme hsm.Scheme) []byte {
	n := 32
	switch {
	case scheme == hsm.ECDSA:
		n = spec.Hash().Size()
	case scheme.Hash() != 0:
		n = scheme.Hash().Size()
	}
	input := make([]byte, n)
	rand.Read(input)
	return input
}

// verifies checks a signature as hsm.Signer makes it.
func verifies(public any, scheme hsm.Scheme, input, signature []byte) bool {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		half := len(signature) / 2
		r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
		return ecdsa.Verify(key, input, r, s)
	case ed25519.PublicKey:
		return ed25519.Verify(key, input, signature)
	case *rsa.PublicKey:
		if scheme.IsPSS() {
			options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
			return rsa.VerifyPSS(key, scheme.Hash(), input, signature, options) == nil
		}
		return rsa.VerifyPKCS1v15(key, scheme.Hash(), input, signature) == nil
	default:
		return false
	}
}

// recoverPublicKey finds the public key of an ECDSA private key that was unwrapped without
// it, and which no attribute tells: it is the one under which two signatures verify.
func (t *Token) recoverPublicKey(s *session, h objectHandle, spec hsm.KeySpec) (*ecdsa.PublicKey, error) {
	first, second := randomInput(spec, hsm.ECDSA), randomInput(spec, hsm.ECDSA)
	signature, err := t.signOne(s, h, spec, hsm.ECDSA, first)
	if err != nil {
		return nil, err
	}
	another, err := t.signOne(s, h, spec, hsm.ECDSA, second)
	if err != nil {
		return nil, err
	}
	for _, candidate := range candidates(curveOf(spec), first, signature) {
		if verifies(candidate, hsm.ECDSA, second, another) {
			return candidate, nil
		}
	}
	return nil, fmt.Errorf("%w: the token's signatures fit no public key", hsm.ErrArgument)
}
