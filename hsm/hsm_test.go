package hsm_test

import (
	"errors"
	"testing"

	"github.com/keyholt/keyholt/hsm"
)

func TestCheckBlocks(t *testing.T) {
	buf := make([]byte, 96)
	tests := []struct {
		name     string
		dst, src []byte
		ok       bool
	}{
		{"apart", buf[:32], buf[32:64], true},
		{"same", buf[:32], buf[:32], true},
		{"longer destination", buf[:48], buf[48:80], true},
		{"destination longer than needed", buf[:64], buf[32:64], true},
		{"nothing", buf, nil, false},
		{"part of a block", buf[48:], buf[:17], false},
		{"short destination", buf[64:80], buf[:32], false},
		{"overlap from below", buf[:32], buf[16:48], false},
		{"overlap from above", buf[16:48], buf[:32], false},
	}
	for _, test := range tests {
		err := hsm.CheckBlocks(test.dst, test.src)
		if test.ok && err != nil || !test.ok && !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestNames(t *testing.T) {
	if got := (hsm.UID{0x0a, 15: 0xff}).String(); got != "0a0000000000000000000000000000ff" {
		t.Errorf("UID %s", got)
	}
	for spec, want := range map[hsm.KeySpec]string{
		hsm.AES256Blocks: "AES256_BLOCKS", hsm.AES256GCM: "AES256_GCM", 0: "UNKNOWN_KEY_SPEC",
	} {
		if spec.String() != want {
			t.Errorf("%d is %s", spec, spec)
		}
	}
	info := hsm.Info{Specs: []hsm.KeySpec{hsm.AES256Blocks}}
	if !info.Supports(hsm.AES256Blocks) || info.Supports(hsm.AES256GCM) {
		t.Error("Supports")
	}
}
