package kms

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"

	"github.com/keyholt/keyholt/hsm"
)

// testMac runs the self-test of one HMAC.
func (s *Service) testMac(ctx context.Context, info *hsm.Info, a Algorithm) error {
	if missing(info, a, 0) != "" {
		return nil // told of with the token's algorithms
	}
	if info.SessionKeys {
		err := s.testMacAnswer(ctx, a)
		if err == nil {
			s.passed(ctx, a.String(), testedKnownAnswer+": the host's own HMAC")
			return nil
		}
		// A token may take session keys of some specifications only.
		if !errors.Is(err, ErrUnsupported) {
			return &SelfTestError{Subject: a.String(), Test: testedKnownAnswer, Cause: err}
		}
	}
	return s.testVersion(ctx, a.String(), "check value", useSeal, func(v *versionEntry) bool { return v.algorithm == a })
}

// testMacAnswer compares the token's tag with the host's, under a random key.
func (s *Service) testMacAnswer(ctx context.Context, a Algorithm) error {
	key := make([]byte, a.KeySpec(0).Size())
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	message := []byte("keyholt self-test")
	return s.withSessionKey(ctx, a.KeySpec(0), key, func(uid hsm.UID) error {
		tag, err := s.token.MAC(ctx, uid, message)
		if err != nil {
			return tokenError(err, "make a MAC")
		}
		h := hmac.New(a.Hash().New, key)
		h.Write(message)
		if !hmac.Equal(tag, h.Sum(nil)) {
			return errWrongAnswer
		}
		return nil
	})
}

// pairClass is a class of algorithms whose computations have much in common.
type pairClass struct {
	name string
	has  func(Algorithm) bool
}

func pairClasses() []pairClass {
	scheme := func(a Algorithm) hsm.Scheme { return a.row().scheme }
	return []pairClass{
		{"ECDSA", func(a Algorithm) bool { return scheme(a) == hsm.ECDSA }},
		{"Ed25519", func(a Algorithm) bool { return scheme(a) == hsm.PureEd25519 }},
		{"RSA PKCS #1 signatures", func(a Algorithm) bool { return a.row().spec.IsRSA() && scheme(a) != 0 && !a.IsPSS() }},
		{"RSA-PSS signatures", Algorithm.IsPSS},
		{"RSA-OAEP", func(a Algorithm) bool { return a.Purpose() == PurposeAsymmetricDecrypt }},
	}
}

// testPairs runs the self-test of each class of key pairs.
func (s *Service) testPairs(ctx context.Context, info *hsm.Info) error {
	for _, class := range pairClasses() {
		supported := false
		for _, a := range Algorithms() {
			supported = supported || class.has(a) && missing(info, a, 0) == ""
		}
		if !supported {
			continue
		}
		err := s.testVersion(ctx, class.name, testedPair, useSeal, func(v *versionEntry) bool { return class.has(v.algorithm) })
		if err != nil {
			return err
		}
	}
	return nil
}

// testVersion checks the object of one version that may be used, as its first use would.
func (s *Service) testVersion(ctx context.Context, subject, test string, u use, fits func(*versionEntry) bool) error {
	v := s.findVersion(u, fits)
	if v == nil {
		s.selfTest = append(s.selfTest, Finding{
			Area: "self-test", Check: subject, Severity: SeverityOK,
			Detail: "no enabled version exists: each key is tested when it is made",
		})
		return nil
	}
	err := s.checkObject(ctx, v)
	switch {
	case errors.Is(err, ErrVersionUnavailable), errors.Is(err, ErrTokenRefused):
		s.reportVersion(ctx, v, err.Error())
	case err != nil:
		return &SelfTestError{Subject: subject, Test: test, Cause: err}
	default:
		s.passed(ctx, subject, test+" of "+v.Name.String())
	}
	return nil
}
