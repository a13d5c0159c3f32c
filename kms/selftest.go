package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms/envelope"
)

// The self-test at start shows that token and host together compute what they should.
// What is tested:
//
//	ENCRYPT_DECRYPT, each profile: where the token lets a session key be imported, a
//	ciphertext with a known answer is opened; elsewhere a version's check value is
//	checked, and something sealed and opened under it.
//	MAC, each hash: likewise, with the host's own HMAC as the known answer.
//	Key pairs, each class of algorithms: one enabled version passes the pairwise
//	consistency test. No pair is made for it: it would be a token object that a crash
//	leaves behind, and an RSA pair takes seconds. Every pair is tested when it is made, and
//	when a process first uses it (pairtest.go).
//
// A known answer that is wrong keeps the service from starting: the token computes
// something else. A version whose object is wrong is unavailable, and only that one.

// knownAnswer is a ciphertext that a known key opens.
type knownAnswer struct {
	source                         string
	key, nonce, aad, plain, sealed string // hexadecimal
}

// derivedAnswer is the second test vector of C2SP XAES-256-GCM (AAD "c2sp.org/XAES-256-GCM").
var derivedAnswer = knownAnswer{
	source: "C2SP XAES-256-GCM, second vector",
	key:    "0303030303030303030303030303030303030303030303030303030303030303",
	nonce:  "4142434445464748494a4b4c4d4e4f505152535455565758",
	aad:    "633273702e6f72672f584145532d3235362d47434d",
	plain:  "584145532d3235362d47434d",
	sealed: "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
}

// strictAnswer is test case 16 of McGrew and Viega, The Galois/Counter Mode of
// Operation (the submission to NIST).
var strictAnswer = knownAnswer{
	source: "GCM test case 16",
	key:    "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
	nonce:  "cafebabefacedbaddecaf888",
	aad:    "feedfacedeadbeeffeedfacedeadbeefabaddad2",
	plain: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
	sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" +
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
		"76fc6ece0f4e1768cddf8853bb2d551b",
}

// testAlgorithms runs the self-tests of what the token supports. A failure keeps the
// service from starting.
func (s *Service) testAlgorithms(ctx context.Context) error {
	info := s.token.Info()
	for _, p := range []Profile{ProfileDerived, ProfileStrict} {
		if err := s.testProfile(ctx, &info, p); err != nil {
			return err
		}
	}
	for _, a := range algorithmsOf(PurposeMAC) {
		if err := s.testMac(ctx, &info, a); err != nil {
			return err
		}
	}
	return s.testPairs(ctx, &info)
}

// passed notes a self-test that found no fault.
func (s *Service) passed(ctx context.Context, subject, detail string) {
	s.selfTest = append(s.selfTest, Finding{Area: "self-test", Check: subject, Severity: SeverityOK, Detail: detail})
	s.log.InfoContext(ctx, "self-test", slog.String("subject", subject), slog.String("detail", detail))
}

func (s *Service) testProfile(ctx context.Context, info *hsm.Info, p Profile) error {
	switch {
	case !info.Supports(p.keySpec()):
		const detail = "the token does not support this profile: such keys are refused"
		s.selfTest = append(s.selfTest, Finding{Area: "self-test", Check: p.String(), Severity: SeverityWarning, Detail: detail})
		s.log.InfoContext(ctx, "self-test", slog.String("subject", p.String()), slog.String("detail", detail))
	case info.SessionKeys:
		answer, err := s.testKnownAnswer(ctx, p)
		if err != nil {
			return &SelfTestError{Subject: p.String(), Test: testedKnownAnswer, Cause: err}
		}
		s.passed(ctx, p.String(), testedKnownAnswer+": "+answer.source)
	default:
		detail, err := s.testRoundTrip(ctx, p)
		if err != nil {
			return &SelfTestError{Subject: p.String(), Test: testedRoundTrip, Cause: err}
		}
		s.passed(ctx, p.String(), detail)
	}
	return nil
}

// SelfTestError is the error of New when a self-test failed: the token computes something
// else than it should, or, if the cause is a domain error, could not be used at all.
type SelfTestError struct {
	Subject string // a protection profile, an algorithm, or a class of algorithms
	Test    string // which one ran, such as "known answer"
	Cause   error
}

// The tests that there are.
const (
	testedKnownAnswer = "known answer"
	testedRoundTrip   = "check value and round trip"
	testedPair        = "pairwise consistency"
)

func (e *SelfTestError) Error() string {
	return fmt.Sprintf("self-test of %s (%s): %v", e.Subject, e.Test, e.Cause)
}

// Unwrap returns the cause.
func (e *SelfTestError) Unwrap() error { return e.Cause }

var errWrongAnswer = errors.New("the token computes something else than it should")

func (s *Service) testKnownAnswer(ctx context.Context, p Profile) (*knownAnswer, error) {
	answer, open := &derivedAnswer, s.openDerivedAnswer
	if p == ProfileStrict {
		answer, open = &strictAnswer, s.openStrictAnswer
	}
	vector, err := answer.decode()
	if err != nil {
		return nil, err
	}
	return answer, s.withSessionKey(ctx, p.keySpec(), vector.key, func(uid hsm.UID) error {
		plaintext, err := open(ctx, uid, vector)
		if err == nil && !bytes.Equal(plaintext, vector.plain) {
			err = errWrongAnswer
		}
		return err
	})
}

// withSessionKey runs a test with a key of a known value, which is gone afterwards.
func (s *Service) withSessionKey(ctx context.Context, spec hsm.KeySpec, value []byte, test func(hsm.UID) error) error {
	var uid hsm.UID
	if _, err := rand.Read(uid[:]); err != nil {
		return err
	}
	if err := s.token.ImportSessionKey(ctx, uid, spec, value); err != nil {
		return tokenError(err, "import a session key")
	}
	err := test(uid)
	if destroyErr := s.token.DestroyKey(ctx, uid); err == nil && destroyErr != nil {
		err = tokenError(destroyErr, "destroy a session key")
	}
	return err
}

func (s *Service) openDerivedAnswer(ctx context.Context, uid hsm.UID, v *answerBytes) ([]byte, error) {
	var l [hsm.BlockSize]byte
	if err := s.token.EncryptBlocks(ctx, uid, l[:], l[:]); err != nil {
		return nil, tokenError(err, "derive keys")
	}
	mask := envelope.NewMaskKey(&l)
	var nonce [envelope.NonceSize]byte
	copy(nonce[:], v.nonce)
	blocks := mask.AppendDerivationBlocks(nil, &nonce)
	if err := s.token.EncryptBlocks(ctx, uid, blocks, blocks); err != nil {
		return nil, tokenError(err, "derive keys")
	}
	plaintext, err := envelope.OpenDerived(nil, (*[envelope.DerivedKeySize]byte)(blocks), slices.Concat(nonce[:], v.sealed), v.aad)
	if err != nil {
		return nil, errWrongAnswer
	}
	return plaintext, nil
}

func (s *Service) openStrictAnswer(ctx context.Context, uid hsm.UID, v *answerBytes) ([]byte, error) {
	items := []hsm.OpenItem{{Nonce: v.nonce, Sealed: v.sealed, AAD: v.aad}}
	err := firstError(s.token.Open(ctx, uid, items), items[0].Err)
	if errors.Is(err, hsm.ErrAuthentication) {
		return nil, errWrongAnswer
	}
	if err != nil {
		return nil, tokenError(err, "decrypt")
	}
	return items[0].Plaintext, nil
}

// testRoundTrip checks one enabled version of the profile, and seals and opens under it.
func (s *Service) testRoundTrip(ctx context.Context, p Profile) (string, error) {
	subject := s.findVersion(useSeal|useOpen, func(v *versionEntry) bool { return v.profile == p })
	if subject == nil {
		return "no session key can be imported and no enabled version of the profile exists: nothing was tested", nil
	}
	plaintext := []byte("keyholt self-test")
	var bound envelope.Binding
	it := item{bound: &bound, rebound: &bound, plaintext: plaintext}
	cipher := s.cipherOf(p)
	err := cipher.seal(ctx, subject, envelope.KindData, []*item{&it})
	if err = firstError(err, it.sealErr); errors.Is(err, ErrEncryptionLimit) {
		return "check value only: the version has reached its encryption limit", nil
	}
	if err != nil {
		return "", err
	}
	if it.blob, err = envelope.Parse(it.ciphertext); err != nil {
		return "", err
	}
	it.plaintext = nil
	if err := firstError(cipher.open(ctx, subject, useOpen, []*item{&it}), it.err); err != nil {
		return "", err
	}
	if !bytes.Equal(it.plaintext, plaintext) {
		return "", errWrongAnswer
	}
	return "check value and round trip under " + subject.Name.String(), nil
}

// findVersion finds a version that may be used; nil: there is none.
func (s *Service) findVersion(u use, fits func(*versionEntry) bool) (found *versionEntry) {
	now := s.snapshot.Load()
	now.versions.Scan(func(_ string, v *versionEntry) bool {
		if fits(v) && now.whyNot(v, u) == nil {
			found = v
		}
		return found == nil
	})
	return found
}

type answerBytes struct{ key, nonce, aad, plain, sealed []byte }

func (k *knownAnswer) decode() (*answerBytes, error) {
	var v answerBytes
	for _, field := range []struct {
		to   *[]byte
		from string
	}{{&v.key, k.key}, {&v.nonce, k.nonce}, {&v.aad, k.aad}, {&v.plain, k.plain}, {&v.sealed, k.sealed}} {
		decoded, err := hex.DecodeString(field.from)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.source, err)
		}
		*field.to = decoded
	}
	return &v, nil
}
