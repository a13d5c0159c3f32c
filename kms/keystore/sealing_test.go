package keystore

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
)

// goldenSealer is a Sealer under a fixed key.
type goldenSealer struct{}

func (goldenSealer) KeyID() string { return "seal-key-1" }

func (goldenSealer) Seal(message []byte) (sum [32]byte) {
	mac := hmac.New(sha256.New, []byte("the key of the seals"))
	mac.Write(message)
	mac.Sum(sum[:0])
	return sum
}

// golden is testdata/seals.json. The file was made by a program in another language from
// the descriptions at Sealer, of the head in digest.go and at FileAnchor, so it checks
// those too. All bytes are in hexadecimal.
type golden struct {
	Rows []struct{ Row, Message, Seal, Summand string }
	// Of a store that holds just the rows.
	StoreID  string `json:"store_id"`
	Revision kms.Revision
	Counts   string
	Digest   string
	Head     string
	Anchor   string
}

func readGolden(t *testing.T) *golden {
	t.Helper()
	text, err := os.ReadFile("testdata/seals.json")
	if err != nil {
		t.Fatal(err)
	}
	want := new(golden)
	if err := json.Unmarshal(text, want); err != nil {
		t.Fatal(err)
	}
	return want
}

func TestGoldenSeals(t *testing.T) {
	want := readGolden(t)
	tables, records := goldenRecords(t)
	if len(want.Rows) != len(records) {
		t.Fatalf("%d golden rows for %d records", len(want.Rows), len(records))
	}
	for i, want := range want.Rows {
		if err := seal(goldenSealer{}, tables[i], records[i]); err != nil {
			t.Fatal(err)
		}
		message, err := appendMessage(nil, tables[i], records[i])
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(message) != want.Message {
			t.Errorf("%s: the message is\n%x, want\n%s", want.Row, message, want.Message)
		}
		if hex.EncodeToString(records[i].seal) != want.Seal {
			t.Errorf("%s: the seal is %x, want %s", want.Row, records[i].seal, want.Seal)
		}
	}
}

func TestGoldenHead(t *testing.T) {
	want := readGolden(t)
	tables, records := goldenRecords(t)
	ring := newRing(goldenSealer{}, hsm.UID{})
	set, verifier := newSet(ring.keyID), newVerifier(ring)
	for i, r := range records {
		if err := seal(goldenSealer{}, tables[i], r); err != nil {
			t.Fatal(err)
		}
		e, err := verifier.verify(tables[i], r)
		if err != nil || !set.insert(tables[i], idOf(tables[i], r.fixed), e) {
			t.Fatalf("%s: %v", want.Rows[i].Row, err)
		}
		if got := hex.EncodeToString(e.summand.bytes()); got != want.Rows[i].Summand {
			t.Errorf("%s: the summand is %s, want %s", want.Rows[i].Row, got, want.Rows[i].Summand)
		}
	}
	if got := set.counts.String(); got != want.Counts {
		t.Errorf("the counts are %q, want %q", got, want.Counts)
	}
	if got := hex.EncodeToString(set.sum.bytes()); got != want.Digest {
		t.Errorf("the digest is %s, want %s", got, want.Digest)
	}
	head := ring.headSeal(want.StoreID, want.Revision, want.Counts, &set.sum)
	if hex.EncodeToString(head[:]) != want.Head {
		t.Errorf("the head's seal is %x, want %s", head, want.Head)
	}
	anchor := anchorSeal(ring, want.StoreID, kms.Head{Revision: want.Revision, Seal: head})
	if hex.EncodeToString(anchor[:]) != want.Anchor {
		t.Errorf("the anchor's seal is %x, want %s", anchor, want.Anchor)
	}
}

// TestDigestArithmetic holds that what is added can be subtracted again, in any order,
// with carries through all words.
func TestDigestArithmetic(t *testing.T) {
	ones := digest{math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64}
	var sum digest
	for range 3 {
		sum.add(&ones)
	}
	if want := (digest{math.MaxUint64 - 2, math.MaxUint64, math.MaxUint64, math.MaxUint64}); sum != want {
		t.Errorf("three times -1 is %v, want %v", sum, want)
	}
	sum.add(&digest{3})
	if sum != (digest{}) {
		t.Errorf("-3 + 3 is %v", sum)
	}
	sum.subtract(&digest{0, 1})
	sum.subtract(&ones)
	if want := (digest{1, math.MaxUint64, math.MaxUint64, math.MaxUint64}); sum != want {
		t.Errorf("0 - 2^64 + 1 is %v, want %v", sum, want)
	}
}

func goldenRecords(t *testing.T) ([]*table, []*record) {
	t.Helper()
	at := time.Date(2026, 3, 29, 2, 30, 15, 123456000, time.FixedZone("CEST", 2*60*60))
	uid := hsm.UID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	namespace := keystoretest.Namespace(t, "shop")
	namespace.CreateTime, namespace.CreatedBy, namespace.Revision = at, "unix:1000", 1
	key := keystoretest.Key(t, namespace, "orders", kms.ProfileDerived)
	key.Labels = map[string]string{"umlaut": "Schlüssel", "env": "prod"}
	key.RotationPeriod, key.Primary = 90*24*time.Hour, 3
	key.CreateTime, key.CreatedBy, key.Revision = at, "x509:CN=billing,O=Example", 2
	full := &kms.Version{
		Name: key.Name.Version(3), UID: uid, State: kms.StateDestroyScheduled, CreateTime: at,
		DestroyTime: at.Add(3 * time.Second), RestoreTo: kms.StateRevoked, Epoch: math.MaxUint32,
		StateTime: at.Add(time.Second), StatePrincipal: "unix:0", StateReason: "leaked\ntwice",
		FirstUse: at.Add(2 * time.Second), Check: []byte{0x00, 0xff, 0x80},
		Attributes: kms.ObjectAttributes{
			Attributes: hsm.Attributes{
				Local: hsm.ReportedTrue, Extractable: hsm.ReportedFalse, NeverExtractable: hsm.ReportedTrue,
				KeyGenMechanism: "CKM_AES_KEY_GEN",
			},
			Mechanisms: []string{"CKM_AES_ECB"},
		},
		Imported:  true,
		RequestID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", RequestDigest: bytes.Repeat([]byte{7}, 32),
		Revision: 1 << 40,
	}
	bare := &kms.Version{Name: key.Name.Version(1), UID: uid, State: kms.StateCreating, CreateTime: at, Revision: 2}

	made := func(r *record, err error) *record {
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	counter := reservationRecord(uid, 1<<31)
	counter.revision = 9
	origin := &kms.Origin{Epoch: 2, Time: at, Principal: "unix:0", Reason: "disk lost", Revision: 3}
	orphan := &kms.Orphan{
		UID: uid, Label: "keyholt:0123456789abcdef:1774744215", DestroyTime: at.Add(3 * time.Second), Principal: "unix:0", Revision: 5,
	}
	jobName, err := kms.NewImportJobName(namespace.Name, "laptop")
	if err != nil {
		t.Fatal(err)
	}
	job := &kms.ImportJob{
		Name: jobName, UID: uid, Method: kms.ImportRSA3072SHA256, State: kms.ImportJobActive, CreateTime: at, CreatedBy: "unix:1000",
		ExpireTime: at.Add(3 * 24 * time.Hour), PublicKey: []byte{0x30, 0x82, 0x00},
		Attributes: kms.ObjectAttributes{
			Attributes: hsm.Attributes{Local: hsm.ReportedTrue, Extractable: hsm.ReportedFalse}, Mechanisms: []string{"CKM_RSA_PKCS_OAEP"},
		},
		RequestID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", RequestDigest: bytes.Repeat([]byte{7}, 32), Revision: 6,
	}
	removal := &record{fixed: []any{"version", "namespaces/shop/keys/orders/versions/2"}, revision: 7}
	return []*table{
			namespaceTable, keyTable, versionTable, versionTable, reservationTable, originTable, orphanTable,
			importJobTable, removalTable,
		},
		[]*record{
			made(namespaceRecord(namespace)), made(keyRecord(key)), made(versionRecord(full)), made(versionRecord(bare)), counter,
			made(originRecord(origin)), made(orphanRecord(orphan)), made(importJobRecord(job)), removal,
		}
}

// TestMessagesDiffer holds that rows that look alike have different messages.
func TestMessagesDiffer(t *testing.T) {
	base := func() *record {
		return &record{fixed: []any{"a", "b"}, content: []any{"c", int64(0), []byte("d"), nil}, revision: 1, sealKeyID: "k"}
	}
	variants := map[string]func(*record){
		"as it is":                    func(*record) {},
		"text moved between columns":  func(r *record) { r.fixed = []any{"ab", ""} },
		"column moved":                func(r *record) { r.fixed = []any{"a"}; r.content = append([]any{"b"}, r.content...) },
		"text for bytes":              func(r *record) { r.content[2] = "d" },
		"NULL for no bytes":           func(r *record) { r.content[2] = nil },
		"no bytes":                    func(r *record) { r.content[2] = []byte{} },
		"text for integer":            func(r *record) { r.content[1] = "\x00\x00\x00\x00\x00\x00\x00\x00" },
		"NULL for integer":            func(r *record) { r.content[1] = nil },
		"value for NULL":              func(r *record) { r.content[3] = int64(0) },
		"other revision":              func(r *record) { r.revision = 2 },
		"other seal key":              func(r *record) { r.sealKeyID = "l" },
		"seal key and column swapped": func(r *record) { r.sealKeyID, r.content[0] = "c", "k" },
	}
	seen := make(map[string]string)
	for name, change := range variants {
		r := base()
		change(r)
		message, err := appendMessage(nil, keyTable, r)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[string(message)]; ok {
			t.Errorf("%q and %q have the same message", name, other)
		}
		seen[string(message)] = name
	}
	message, err := appendMessage(nil, versionTable, base())
	if err != nil {
		t.Fatal(err)
	}
	if other, ok := seen[string(message)]; ok {
		t.Errorf("a row of another table has the message of %q", other)
	}
}

// TestLaterColumn holds what lets a migration add a column: as long as it is NULL the
// seal of the row stays what it was.
func TestLaterColumn(t *testing.T) {
	r := &record{fixed: []any{"a"}, content: []any{"b"}, revision: 1, sealKeyID: "k"}
	before, err := appendMessage(nil, namespaceTable, r)
	if err != nil {
		t.Fatal(err)
	}
	r.content = append(r.content, nil)
	after, err := appendMessage(nil, namespaceTable, r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Errorf("a NULL column at the end changes the message from %x to %x", before, after)
	}
}
