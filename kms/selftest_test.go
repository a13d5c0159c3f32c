package kms_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// miscalculating is a token whose answers have one bit wrong, once it is told so.
type miscalculating struct {
	hsm.Token
	blocks, gcm bool
}

func (m *miscalculating) EncryptBlocks(ctx context.Context, key hsm.UID, dst, src []byte) error {
	err := m.Token.EncryptBlocks(ctx, key, dst, src)
	if m.blocks {
		dst[len(src)-1] ^= 1
	}
	return err
}

func (m *miscalculating) Open(ctx context.Context, key hsm.UID, items []hsm.OpenItem) error {
	err := m.Token.Open(ctx, key, items)
	for i := range items {
		if m.gcm && len(items[i].Plaintext) > 0 {
			items[i].Plaintext[0] ^= 1
		}
	}
	return err
}

func TestSelfTestRefusesAWrongToken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		memory  hsmtest.MemoryConfig
		lie     miscalculating
		profile kms.Profile
		ran     string
	}{
		{"blocks", hsmtest.MemoryConfig{Label: "test"}, miscalculating{blocks: true}, kms.ProfileDerived, "known answer"},
		{"gcm", hsmtest.MemoryConfig{Label: "test"}, miscalculating{gcm: true}, kms.ProfileStrict, "known answer"},
		{"gcm, no session keys", hsmtest.MemoryConfig{Label: "test", NoSessionKeys: true},
			miscalculating{gcm: true}, kms.ProfileStrict, "check value and round trip"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			lie := false
			w := newWorld(t, test.memory, func(c *kms.Config) {
				c.Logger = slog.New(slog.NewTextHandler(&log, nil))
				if lie {
					test.lie.Token = c.Token
					c.Token = &test.lie
				}
			})
			w.create("derived", kms.ProfileDerived)
			w.create("strict", kms.ProfileStrict)
			w.restart()
			if want := "subject=" + test.profile.String() + " detail=\"" + test.ran; !strings.Contains(log.String(), want) {
				t.Errorf("the log does not say which self-test ran: no %s in\n%s", want, &log)
			}

			lie = true
			w.stop()
			err := w.start()
			var failed *kms.SelfTestError
			if !errors.As(err, &failed) {
				t.Fatalf("started on a token that miscalculates: %v", err)
			}
			if failed.Subject != test.profile.String() || failed.Test != test.ran {
				t.Errorf("failed %s (%s), want %s (%s)", failed.Subject, failed.Test, test.profile, test.ran)
			}
		})
	}
}

// wrongMAC is a token whose tags have one bit wrong, once it is told so.
type wrongMAC struct {
	hsm.Token
	lie bool
}

func (m *wrongMAC) MAC(ctx context.Context, key hsm.UID, message []byte) ([]byte, error) {
	tag, err := m.Token.MAC(ctx, key, message)
	if m.lie && len(tag) > 0 {
		tag[0] ^= 1
	}
	return tag, err
}

// A token that computes another HMAC keeps the service from starting where a known answer
// tells; else the version with which it was noticed is unavailable, and only that.
func TestSelfTestOfMacs(t *testing.T) {
	t.Parallel()
	token := &wrongMAC{}
	w := newKeyWorld(t, func(c *kms.Config) {
		token.Token = c.Token
		c.Token = token
	})
	w.stop()
	token.lie = true
	var failed *kms.SelfTestError
	if err := w.start(); !errors.As(err, &failed) || failed.Subject != "HMAC_SHA256" || failed.Test != "known answer" {
		t.Fatalf("started on a token that miscalculates: %v", err)
	}

	token = &wrongMAC{}
	w = newWorld(t, hsmtest.MemoryConfig{NoSessionKeys: true}, func(c *kms.Config) {
		token.Token = c.Token
		c.Token = token
	})
	name, other := w.createKey("mac", kms.AlgorithmHMACSHA384), w.create("orders", kms.ProfileDerived)
	w.stop()
	token.lie = true
	w.mustStart()
	_, err := w.service.GenerateMac(t.Context(), admin, &kms.GenerateMacRequest{Key: name, Message: []byte("m")})
	wantError(t, err, kms.ErrVersionUnavailable, "GenerateMac")
	w.mustEncrypt(other, "secret")
	findings, err := w.service.Diagnose(t.Context(), admin)
	if err != nil {
		t.Fatal(err)
	}
	told := false
	for _, f := range findings {
		told = told || f.Check == name.Version(1).String() && f.Severity == kms.SeverityError
	}
	if !told {
		t.Errorf("no finding tells of it: %+v", findings)
	}
}

// What was tested at the start, and what there was nothing to test with, the findings say.
func TestSelfTestFindings(t *testing.T) {
	t.Parallel()
	w := newKeyWorld(t, nil)
	tested := func() map[string]string {
		findings, err := w.service.Diagnose(t.Context(), admin)
		if err != nil {
			t.Fatal(err)
		}
		details := make(map[string]string)
		for _, f := range findings {
			if f.Area == "self-test" && f.Severity == kms.SeverityOK {
				details[f.Check] = f.Detail
			}
		}
		return details
	}
	classes := map[string]kms.Algorithm{
		"ECDSA": kms.AlgorithmECP521SHA512, "Ed25519": kms.AlgorithmEd25519, "RSA PKCS #1 signatures": kms.AlgorithmRSA2048PKCS1SHA512,
		"RSA-PSS signatures": kms.AlgorithmRSA2048PSSSHA384, "RSA-OAEP": kms.AlgorithmRSA2048OAEPSHA1,
	}
	before := tested()
	if len(before) != 2+3+len(classes) {
		t.Errorf("%d subjects: %v", len(before), before)
	}
	for class, a := range classes {
		if !strings.HasPrefix(before[class], "no enabled version") {
			t.Errorf("%s: %q", class, before[class])
		}
		w.createKey(strings.ToLower(strings.ReplaceAll(a.String(), "_", "-")), a)
	}
	w.restart()
	after := tested()
	for class := range classes {
		if !strings.HasPrefix(after[class], "pairwise consistency of namespaces/default/keys/") {
			t.Errorf("%s: %q", class, after[class])
		}
	}
}
