package kms

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"regexp"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// corpus is a file of Project Wycheproof, as far as signatures and tags need it.
type corpus struct {
	Groups []vectorGroup `json:"testGroups"`
}

// vectorGroup is vectors under one key, or under keys of one length.
type vectorGroup struct {
	Type      string   `json:"type"`
	PublicKey hexBytes `json:"publicKeyDer"`
	Hash      string   `json:"sha"`
	MGFHash   string   `json:"mgfSha"`
	Salt      int      `json:"sLen"` // bytes
	KeySize   int      `json:"keySize"`
	TagSize   int      `json:"tagSize"` // bits
	Tests     []vector `json:"tests"`
}

type vector struct {
	ID        int      `json:"tcId"`
	Comment   string   `json:"comment"`
	Key       hexBytes `json:"key"`
	Message   hexBytes `json:"msg"`
	Signature hexBytes `json:"sig"`
	Tag       hexBytes `json:"tag"`
	Result    string   `json:"result"`
}

type hexBytes []byte

// UnmarshalText decodes hexadecimal digits.
func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode([]byte{}, text)
	return err
}

// readCorpora reads the files whose name matches.
func readCorpora(t *testing.T, pattern string) map[string]corpus {
	t.Helper()
	files := regexp.MustCompile(pattern)
	corpora := make(map[string]corpus)
	err := fs.WalkDir(wycheproof.TestVectors, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !files.MatchString(path) {
			return err
		}
		text, err := fs.ReadFile(wycheproof.TestVectors, path)
		if err != nil {
			return err
		}
		var c corpus
		err = json.Unmarshal(text, &c)
		corpora[path] = c
		return err
	})
	if err != nil || len(corpora) == 0 {
		t.Fatalf("%d files match %s: %v", len(corpora), pattern, err)
	}
	return corpora
}

// The hashes of our algorithms, by Wycheproof's names.
var vectorHashes = map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// format is that of a group's signatures.
func (g *vectorGroup) format() SignatureFormat {
	if g.Type == "EcdsaP1363Verify" {
		return SignatureRaw
	}
	return SignatureDER
}

// isOf reports whether the group's signatures are of an algorithm that has its key: the
// same scheme, with the same hash, and for PSS with MGF1 of that hash and as long a salt.
func (g *vectorGroup) isOf(a Algorithm) bool {
	hash := vectorHashes[g.Hash]
	switch g.Type {
	case "EcdsaVerify", "EcdsaP1363Verify":
		return a.row().scheme == hsm.ECDSA && hash == a.Hash()
	case "EddsaVerify":
		return a == AlgorithmEd25519
	case "RsassaPkcs1Verify":
		return a.row().spec.IsRSA() && !a.IsPSS() && hash == a.Hash()
	case "RsassaPssVerify":
		return a.IsPSS() && hash == a.Hash() && g.MGFHash == g.Hash && g.Salt == hash.Size()
	default:
		return false
	}
}

// verifiesVector takes a signature the way that the items of Verify go once their version
// is found: the public key is read from the row, the message is hashed.
func verifiesVector(t *testing.T, v *versionEntry, g *vectorGroup, test *vector) bool {
	t.Helper()
	it := keyItem{message: test.Message, given: test.Signature, format: g.format()}
	if err := verification.check(v.algorithm, &it); err != nil {
		t.Fatal(err)
	}
	if err := verification.work(new(Service), t.Context(), v, []*keyItem{&it}); err != nil {
		t.Fatal(err)
	}
	return it.valid
}

// signatureTally counts vectors of an algorithm.
type signatureTally struct{ verified, refused, foreign int }

// Every signature of Project Wycheproof whose key is one that we could have is put to each
// algorithm with such a key. Those that are valid and of the algorithm verify, those that
// are invalid do not, and neither do valid ones of another hash, salt or padding. (An
// invalid one of another algorithm may be a good one of ours: left out.) "acceptable" is
// what the corpus calls an omitted NULL of PKCS #1 v1.5: it does not verify.
func TestWycheproofSignatures(t *testing.T) {
	t.Parallel()
	tallies := make(map[Algorithm]*signatureTally)
	refusedKeys := 0
	for path, c := range readCorpora(t, `^(ecdsa_secp.*|ed25519|rsa_signature_.*|rsa_pss_.*)_test\.json$`) {
		for _, g := range c.Groups {
			fits := 0
			for _, a := range Algorithms() {
				if a.Purpose() != PurposeAsymmetricSign {
					continue
				}
				if _, err := hsm.ParsePublicKey(a.KeySpec(0), g.PublicKey); err != nil {
					continue
				}
				fits++
				v := &versionEntry{Version: &Version{Check: g.PublicKey}, algorithm: a, live: new(liveKey)}
				if tallies[a] == nil {
					tallies[a] = new(signatureTally)
				}
				for _, test := range g.Tests {
					if !g.isOf(a) && test.Result != "valid" {
						continue
					}
					want := g.isOf(a) && test.Result == "valid"
					if verifiesVector(t, v, &g, &test) != want {
						t.Errorf("%s: test %d (%s) under %s: want %t", path, test.ID, test.Comment, a, want)
					}
					switch {
					case want:
						tallies[a].verified++
					case g.isOf(a):
						tallies[a].refused++
					default:
						tallies[a].foreign++
					}
				}
			}
			if fits == 0 {
				refusedKeys++
			}
		}
	}
	requireTallies(t, tallies)
	if refusedKeys == 0 {
		t.Error("the corpus lacks keys that are none of ours")
	}
	t.Logf("%d groups are of keys that are none of ours", refusedKeys)
}

// lacking are the algorithms of which the corpus has no signature. What differs from those
// of which it has is a number of bytes.
var lacking = map[Algorithm]bool{AlgorithmRSA3072PSSSHA384: true, AlgorithmRSA3072PSSSHA512: true}

// requireTallies wants vectors for every algorithm.
func requireTallies(t *testing.T, tallies map[Algorithm]*signatureTally) {
	t.Helper()
	var total signatureTally
	for _, a := range Algorithms() {
		if a.Purpose() != PurposeAsymmetricSign {
			continue
		}
		n := tallies[a]
		if n == nil {
			n = new(signatureTally)
		}
		t.Logf("%-28s %4d verified, %4d refused, %5d of other algorithms refused", a, n.verified, n.refused, n.foreign)
		total.verified, total.refused, total.foreign = total.verified+n.verified, total.refused+n.refused, total.foreign+n.foreign
		if n.foreign+n.refused == 0 || (n.verified == 0) != lacking[a] {
			t.Errorf("the corpus has other tests for %s than it had", a)
		}
	}
	t.Logf("%-28s %4d verified, %4d refused, %5d of other algorithms refused", "together", total.verified, total.refused, total.foreign)
}

// HMAC: the token makes the tags, the host compares. Vectors of the lengths of key that we
// have go through VerifyMac's work on the in-memory token; truncated tags are refused.
func TestWycheproofMACs(t *testing.T) {
	t.Parallel()
	token := hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open()
	t.Cleanup(func() { _ = token.Close() })
	service := &Service{token: token}
	for a, file := range map[Algorithm]string{
		AlgorithmHMACSHA256: "hmac_sha256", AlgorithmHMACSHA384: "hmac_sha384", AlgorithmHMACSHA512: "hmac_sha512",
	} {
		verified, refused, truncated := 0, 0, 0
		for _, c := range readCorpora(t, `^`+file+`_test\.json$`) {
			for _, g := range c.Groups {
				if g.KeySize != 8*a.Hash().Size() {
					continue
				}
				for _, test := range g.Tests {
					if len(test.Message) == 0 {
						continue // the service refuses those
					}
					v := importMACKey(t, token, a, &test)
					it := keyItem{message: test.Message, given: test.Tag}
					if err := macVerification.check(a, &it); err != nil {
						t.Fatal(err)
					}
					if err := macVerification.work(service, t.Context(), v, []*keyItem{&it}); err != nil || it.err != nil {
						t.Fatal(err, it.err)
					}
					whole := g.TagSize == g.KeySize
					if want := test.Result == "valid" && whole; it.valid != want {
						t.Errorf("%s: test %d (%s): %t", file, test.ID, test.Comment, it.valid)
					}
					switch {
					case !whole:
						truncated++
					case it.valid:
						verified++
					default:
						refused++
					}
				}
			}
		}
		t.Logf("%s: %d verified, %d refused, %d truncated refused", a, verified, refused, truncated)
		if verified == 0 || refused == 0 || truncated == 0 {
			t.Errorf("the corpus lacks a kind of test for %s", a)
		}
	}
}

func importMACKey(t *testing.T, token hsm.Token, a Algorithm, test *vector) *versionEntry {
	t.Helper()
	v := &versionEntry{Version: &Version{}, algorithm: a, live: new(liveKey)}
	v.UID[0], v.UID[1], v.UID[2] = byte(a), byte(test.ID>>8), byte(test.ID)
	if err := token.ImportSessionKey(t.Context(), v.UID, a.KeySpec(0), test.Key); err != nil {
		t.Fatal(err)
	}
	return v
}
