package hsmtest_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// TestMemoryContract runs the suite on in-memory tokens that can do everything and
// on such that lack something.
func TestMemoryContract(t *testing.T) {
	configs := map[string]hsmtest.MemoryConfig{
		"Full":                {},
		"NoUsageSwitch":       {NoUsageSwitch: true},
		"NoLabelSwitch":       {NoLabelSwitch: true},
		"NoSessionKeys":       {NoSessionKeys: true},
		"NoAllowedMechanisms": {NoAllowedMechanisms: true},
		"TokenNonces12":       {NonceSize: 12},
		"TokenNonces16":       {NonceSize: 16},
		"ShortBlocks":         {MaxBlockBytes: 32},
		"NoGCM":               {Specs: []hsm.KeySpec{hsm.AES256Blocks}},
		"NoImport":            {NoImport: true},
		"OAEPSHA1":            {NoOAEPSHA256: true},
		"NoRSA":               {Specs: []hsm.KeySpec{hsm.AES256Blocks, hsm.ECDSAP256, hsm.Ed25519, hsm.HMACSHA384}},
	}
	var keys hsmtest.RSAKeys
	for name, cfg := range configs {
		cfg.RSAKeys = &keys
		t.Run(name, func(t *testing.T) {
			hsmtest.Run(t, func(testing.TB) hsmtest.Fixture {
				memory := hsmtest.NewMemory(cfg)
				return hsmtest.Fixture{
					Token:    memory.Open(),
					Another:  func(testing.TB) hsm.Token { return memory.Open() },
					AllSizes: name == "Full",
				}
			})
		})
	}
}

// TestFaultsContract: a wrapper without rules changes nothing.
func TestFaultsContract(t *testing.T) {
	var keys hsmtest.RSAKeys
	hsmtest.Run(t, func(testing.TB) hsmtest.Fixture {
		memory := hsmtest.NewMemory(hsmtest.MemoryConfig{RSAKeys: &keys})
		return hsmtest.Fixture{
			Token:   hsmtest.NewFaults(memory.Open()),
			Another: func(testing.TB) hsm.Token { return memory.Open() },
		}
	})
}

func TestMemoryTokenNonces(t *testing.T) {
	for _, size := range []int{12, 16} {
		token := hsmtest.NewMemory(hsmtest.MemoryConfig{NonceSize: size}).Open()
		if !token.Info().TokenNonces {
			t.Fatal("Info does not say that nonces are the token's")
		}
		if _, err := token.GenerateKey(t.Context(), hsm.UID{1}, "", hsm.AES256GCM); err != nil {
			t.Fatal(err)
		}
		items := []hsm.SealItem{{AAD: []byte("a")}}
		if err := token.Seal(t.Context(), hsm.UID{1}, items); err != nil {
			t.Fatal(err)
		}
		if len(items[0].Nonce) != size {
			t.Fatalf("a nonce of %d bytes, want %d", len(items[0].Nonce), size)
		}
	}
}

// TestMemoryTamper: what a test does behind the token's back is seen through it.
func TestMemoryTamper(t *testing.T) {
	memory := hsmtest.NewMemory(hsmtest.MemoryConfig{})
	token := memory.Open()
	a, b, c := hsm.UID{1}, hsm.UID{2}, hsm.UID{3}
	encrypt := func(uid hsm.UID) ([]byte, error) {
		dst := make([]byte, 16)
		return dst, token.EncryptBlocks(t.Context(), uid, dst, make([]byte, 16))
	}
	for _, uid := range []hsm.UID{a, b} {
		if _, err := token.GenerateKey(t.Context(), uid, "", hsm.AES256Blocks); err != nil {
			t.Fatal(err)
		}
	}
	ofA, _ := encrypt(a)
	ofB, _ := encrypt(b)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(memory.TamperSwap(a, b))
	if got, err := encrypt(a); err != nil || !bytes.Equal(got, ofB) {
		t.Fatal("swapping did not swap")
	}
	must(memory.TamperUID(b, c))
	if _, err := encrypt(b); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Fatal(err)
	}
	if got, err := encrypt(c); err != nil || !bytes.Equal(got, ofA) {
		t.Fatal("the key did not move")
	}
	must(memory.TamperValue(c))
	if got, err := encrypt(c); err != nil || bytes.Equal(got, ofA) {
		t.Fatal("the value is the old one")
	}
	must(memory.TamperUsable(c, false))
	if _, err := encrypt(c); !errors.Is(err, hsm.ErrKeyNotPermitted) {
		t.Fatal(err)
	}
	must(memory.TamperLabel(a, "other"))
	if o, err := token.Key(t.Context(), a); err != nil || o.Label != "other" {
		t.Fatalf("%+v %v", o, err)
	}
	must(memory.TamperDelete(a))
	if _, err := encrypt(a); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Fatal(err)
	}
	for _, err := range []error{memory.TamperDelete(a), memory.TamperValue(a), memory.TamperUID(a, b), memory.TamperSwap(a, c)} {
		if !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Fatal(err)
		}
	}
}
