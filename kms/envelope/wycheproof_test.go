package envelope_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/keyholt/keyholt/kms/envelope"
)

// The host's half of format 1 is AES-256-GCM; testdata/wycheproof_aes256gcm.json holds Project Wycheproof's vectors for
// it (source and commit in the file). They go through SealDerived and OpenDerived with the key taken for Kx.
func TestWycheproofAES256GCM(t *testing.T) {
	raw, err := os.ReadFile("testdata/wycheproof_aes256gcm.json")
	if err != nil {
		t.Fatal(err)
	}
	var corpus struct {
		Tests []struct {
			ID      int    `json:"tcId"`
			Comment string `json:"comment"`
			Key     string `json:"key"`
			IV      string `json:"iv"`
			AAD     string `json:"aad"`
			Msg     string `json:"msg"`
			CT      string `json:"ct"`
			Tag     string `json:"tag"`
			Result  string `json:"result"`
		} `json:"tests"`
	}
	if err := json.Unmarshal(raw, &corpus); err != nil {
		t.Fatal(err)
	}
	results := make(map[string]int)
	for _, c := range corpus.Tests {
		results[c.Result]++
		msg, aad, sealed := unhex(t, c.Msg), unhex(t, c.AAD), unhex(t, c.CT+c.Tag)
		var nonce [envelope.NonceSize]byte
		copy(nonce[12:], unhex(t, c.IV))
		kx := func() *[envelope.DerivedKeySize]byte { return (*[envelope.DerivedKeySize]byte)(unhex(t, c.Key)) }
		opened, err := envelope.OpenDerived(nil, kx(), slices.Concat(nonce[:], sealed), aad)
		if c.Result != "valid" {
			if err == nil {
				t.Errorf("test %d (%s) opens", c.ID, c.Comment)
			}
			continue
		}
		if err != nil {
			t.Errorf("test %d (%s): %v", c.ID, c.Comment, err)
		}
		requireEqual(t, "plaintext", opened, msg)
		got, err := envelope.SealDerived(nil, kx(), &nonce, msg, aad)
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "sealed", got, sealed)
	}
	if results["valid"] == 0 || results["invalid"] == 0 {
		t.Errorf("the corpus lacks a kind of test: %v", results)
	}
}
