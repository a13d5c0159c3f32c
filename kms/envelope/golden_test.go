package envelope_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyholt/keyholt/kms/envelope"
)

// goldenBlob is one file of testdata/golden. The blobs were made by a program that shares no code with this package
// (see FORMAT.md, 11.3); all that was ever written must stay readable.
type goldenBlob struct {
	Key            string            `json:"key"`
	Nonce          string            `json:"nonce"`
	Context        map[string]string `json:"context"`
	AdditionalData string            `json:"additional_data"`
	Plaintext      string            `json:"plaintext"`
	AAD            string            `json:"aad"`
	Blob           string            `json:"blob"`
}

func TestGoldenBlobs(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.json")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[envelope.Format]map[envelope.Kind]int)
	for _, f := range []envelope.Format{envelope.FormatDerived, envelope.FormatStrict} {
		seen[f] = make(map[envelope.Kind]int)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var g goldenBlob
			if err := json.Unmarshal(raw, &g); err != nil {
				t.Fatal(err)
			}
			f, k := checkGolden(t, g)
			seen[f][k]++
		})
	}
	for f, kinds := range seen {
		for _, k := range []envelope.Kind{envelope.KindData, envelope.KindWrappedKey} {
			if kinds[k] == 0 {
				t.Errorf("no golden blob of %v, kind %v", f, k)
			}
		}
	}
}

// checkGolden opens the blob, then makes the same bytes again.
func checkGolden(t *testing.T, g goldenBlob) (envelope.Format, envelope.Kind) {
	t.Helper()
	p, plaintext, nonce := unhex(t, g.Blob), unhex(t, g.Plaintext), unhex(t, g.Nonce)
	blob, err := envelope.Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	// Some of the blobs were bound by a gateway.
	caller, service := make(map[string]string), make(map[string]string)
	for key, value := range g.Context {
		if len(key) > len(envelope.ReservedPrefix) && key[:len(envelope.ReservedPrefix)] == envelope.ReservedPrefix {
			service[key] = value
		} else {
			caller[key] = value
		}
	}
	b, err := envelope.NewServiceBinding(caller, service, unhex(t, g.AdditionalData))
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "AAD", b.AppendAAD(nil, blob.Header()), unhex(t, g.AAD))
	requireEqual(t, "nonce", blob.Nonce, nonce)
	token := newSoftToken(t, unhex(t, g.Key), blob.UID)
	got, err := token.open(t, p, b)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "plaintext", got, plaintext)
	requireEqual(t, "blob made again", token.seal(t, blob.Format, blob.Kind, nonce, b, plaintext), p)
	return blob.Format, blob.Kind
}
