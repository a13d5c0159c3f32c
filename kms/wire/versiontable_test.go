package wire

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyholt/keyholt/kms"
)

// Whatever the sequence, each version has one index, under which its name stands, and no name
// stands there twice; the other side reads the same versions back.
func TestVersionTable(t *testing.T) {
	var versions []kms.VersionName
	for _, name := range []string{"a", "b"} {
		key, err := kms.ParseKeyName("namespaces/default/keys/" + name)
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, key.Version(1), key.Version(2), kms.KeyName{}.Version(1))
	}
	versions = append(versions, kms.VersionName{})
	rapid.Check(t, func(t *rapid.T) {
		sequence := rapid.SliceOf(rapid.SampledFrom(versions[:rapid.IntRange(1, len(versions)).Draw(t, "choice")])).Draw(t, "sequence")
		sequence = append(sequence, kms.VersionName{})
		table := versionTable{}
		var wantNames []string
		for i, v := range sequence {
			want := int32(unknownVersion)
			if !v.IsZero() {
				at := slices.Index(wantNames, v.String())
				if at < 0 {
					at = len(wantNames)
					wantNames = append(wantNames, v.String())
				}
				want = int32(at)
			}
			if got := table.index(v); got != want {
				t.Fatalf("%q, number %d of %q: index %d, want %d", v, i, sequence, got, want)
			}
		}
		if !slices.Equal(table.names, wantNames) {
			t.Fatalf("names %q, want %q", table.names, wantNames)
		}
	})
}

// Results come back with the version that they were sent with.
func TestVersionsComeBack(t *testing.T) {
	key, err := kms.ParseKeyName("namespaces/default/keys/orders")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfN(rapid.Uint32Range(1, 4), 1, 20).Draw(t, "numbers")
		results := make([]kms.SignResult, len(numbers))
		for i, n := range numbers {
			results[i] = kms.SignResult{Signature: []byte{byte(i)}, Version: key.Version(n), Algorithm: kms.AlgorithmEd25519}
		}
		got, err := DecodeBatchSignResponse(EncodeBatchSignResponse(results, nil))
		if err != nil {
			t.Fatal(err)
		}
		for i := range results {
			if got[i].Version != results[i].Version || got[i].Signature[0] != byte(i) || got[i].Err != nil {
				t.Fatalf("result %d of %v: %+v", i, numbers, got[i])
			}
		}
	})
}
