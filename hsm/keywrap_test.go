package hsm_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/keyholt/keyholt/hsm"
)

// TestWrapAESVectors: the examples of RFC 5649, section 6.
func TestWrapAESVectors(t *testing.T) {
	kek, _ := hex.DecodeString("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for key, want := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		value, _ := hex.DecodeString(key)
		got, err := hsm.WrapAES(kek, value)
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%x %v, want %s", got, err, want)
		}
		back, err := hsm.UnwrapAES(kek, got)
		if err != nil || !bytes.Equal(back, value) {
			t.Errorf("%x %v, want %s", back, err, key)
		}
	}
}

// TestWrapAESAgainstTink: every length, both ways.
func TestWrapAESAgainstTink(t *testing.T) {
	kek := make([]byte, 32)
	rand.Read(kek)
	tink, err := subtle.NewKWP(kek)
	if err != nil {
		t.Fatal(err)
	}
	for n := 16; n <= 80; n++ { // Tink wraps nothing shorter
		key := make([]byte, n)
		rand.Read(key)
		ours, err := hsm.WrapAES(kek, key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tink.Unwrap(ours); err != nil || !bytes.Equal(got, key) {
			t.Fatalf("%d bytes: Tink does not unwrap ours: %v", n, err)
		}
		theirs, err := tink.Wrap(key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := hsm.UnwrapAES(kek, theirs); err != nil || !bytes.Equal(got, key) {
			t.Fatalf("%d bytes: Tink's does not unwrap: %v", n, err)
		}
	}
}

// TestUnwrapAESRefuses: every changed byte, and contents that WrapAES does not make.
func TestUnwrapAESRefuses(t *testing.T) {
	kek := make([]byte, 32)
	for n := 1; n <= 24; n++ {
		wrapped, err := hsm.WrapAES(kek, bytes.Repeat([]byte{7}, n))
		if err != nil {
			t.Fatal(err)
		}
		for i := range wrapped {
			bad := bytes.Clone(wrapped)
			bad[i] ^= 0x10
			if _, err := hsm.UnwrapAES(kek, bad); !errors.Is(err, hsm.ErrAuthentication) {
				t.Fatalf("%d bytes, byte %d changed: %v", n, i, err)
			}
		}
	}
	for _, n := range []int{0, 8, 15, 17, hsm.MaxWrapped + 8} {
		if _, err := hsm.UnwrapAES(kek, make([]byte, n)); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, n := range []int{0, hsm.MaxWrapped} {
		if _, err := hsm.WrapAES(kek, make([]byte, n)); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("wrapping %d bytes: %v", n, err)
		}
	}
	if _, err := hsm.WrapAES(kek[:31], kek); !errors.Is(err, hsm.ErrArgument) {
		t.Error(err)
	}
}
