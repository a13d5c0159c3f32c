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

// The self-test at start shows that token and host together compute what they should,
// for each protection profile. Where the token lets a session key be imported, it
// opens a ciphertext with a known answer; elsewhere it checks a version's check value
// and seals and opens once under it.

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

// testProfiles runs the self-test of each profile that the token supports. A failure
// keeps the service from starting.
func (s *Service) testProfiles(ctx context.Context) error {
	info := s.token.Info()
	for _, p := range []Profile{ProfileDerived, ProfileStrict} {
		finding := Finding{Area: "self-test", Check: p.String(), Severity: SeverityOK}
		switch {
		case !info.Supports(p.keySpec()):
			finding.Severity = SeverityWarning
			finding.Detail = "the token does not support this profile: such keys are refused"
		case info.SessionKeys:
			answer, err := s.testKnownAnswer(ctx, p)
			if err != nil {
				return &SelfTestError{Profile: p, Test: "known answer", Cause: err}
			}
			finding.Detail = "known answer: " + answer.source
		default:
			detail, err := s.testRoundTrip(ctx, p)
			if err != nil {
				return &SelfTestError{Profile: p, Test: "check value and round trip", Cause: err}
			}
			finding.Detail = detail
		}
		s.selfTest = append(s.selfTest, finding)
		s.log.InfoContext(ctx, "self-test", slog.String("profile", p.String()), slog.String("detail", finding.Detail))
	}
	return nil
}

// SelfTestError is the error of New when a profile's self-test failed: the token
// computes something else than it should, or, if the cause is a domain error, could not
// be used at all.
type SelfTestError struct {
	Profile Profile
	Test    string // which one ran: "known answer" or "check value and round trip"
	Cause   error
}

func (e *SelfTestError) Error() string {
	return fmt.Sprintf("self-test of profile %s (%s): %v", e.Profile, e.Test, e.Cause)
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
	var uid hsm.UID
	if _, err := rand.Read(uid[:]); err != nil {
		return nil, err
	}
	if err := s.token.ImportSessionKey(ctx, uid, p.keySpec(), vector.key); err != nil {
		return nil, tokenError(err, "import a session key")
	}
	plaintext, err := open(ctx, uid, vector)
	if err == nil && !bytes.Equal(plaintext, vector.plain) {
		err = errWrongAnswer
	}
	if destroyErr := s.token.DestroyKey(ctx, uid); err == nil && destroyErr != nil {
		err = tokenError(destroyErr, "destroy a session key")
	}
	return answer, err
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
	var subject *versionEntry
	now := s.snapshot.Load()
	now.versions.Scan(func(_ string, v *versionEntry) bool {
		if v.profile == p && now.refuses(v, useSeal|useOpen) == nil {
			subject = v
		}
		return subject == nil
	})
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
