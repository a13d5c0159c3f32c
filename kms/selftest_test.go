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
