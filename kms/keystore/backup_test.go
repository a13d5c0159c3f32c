package keystore_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// The golden backup was made by a program in another language from the description in
// backup.go, under the key that openSealer gives to goldenSealKey.
const (
	goldenBackup  = "testdata/backup.jsonl"
	goldenSealKey = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
)

func readGoldenBackup(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(goldenBackup)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestGoldenBackup(t *testing.T) {
	_, store := openStore(t, storePath(t))
	got, err := store.ReadBackup(t.Context(), bytes.NewReader(readGoldenBackup(t)))
	if err != nil {
		t.Fatalf("ReadBackup: %v", err)
	}
	if got.StoreID != "0123456789abcdef" || got.SealKey.String() != goldenSealKey || got.Head.Revision != 12 {
		t.Errorf("store %s, seal key %s, revision %d", got.StoreID, got.SealKey, got.Head.Revision)
	}
	at := time.UnixMicro(1774744215123456).UTC()
	namespace, _ := kms.NewNamespaceName("shop")
	orders, _ := kms.NewKeyName(namespace, "orders")
	cards, _ := kms.NewKeyName(namespace, "cards")
	laptop, _ := kms.NewImportJobName(namespace, "laptop")
	want := kms.Contents{
		Head:       got.Head, // ReadBackup has computed its seal
		Origin:     &kms.Origin{Epoch: 2, Time: at, Principal: "unix:0", Reason: "disk lost,\nrestored", Revision: 4},
		Namespaces: []*kms.Namespace{{Name: namespace, CreateTime: at, CreatedBy: "unix:1000", Revision: 1}},
		Keys: []*kms.Key{{
			Name: orders, Purpose: kms.PurposeEncryptDecrypt, Algorithm: kms.AlgorithmAES256, Profile: kms.ProfileDerived,
			Labels:         map[string]string{"env": "prod", "q": `"<&>`, "umlaut": "Schlüssel"},
			RotationPeriod: 90 * 24 * time.Hour, Primary: 2, CreateTime: at, CreatedBy: "x509:CN=billing,O=Example", Revision: 9,
		}, {
			Name: cards, Purpose: kms.PurposeEncryptDecrypt, Algorithm: kms.AlgorithmAES256, Profile: kms.ProfileStrict,
			Primary: 1, CreateTime: at, CreatedBy: "unix:1000", Revision: 2,
		}},
		Versions: []*kms.Version{{
			Name: orders.Version(1), UID: hsm.UID{15: 1}, State: kms.StateDestroyScheduled, CreateTime: at,
			StateTime: at.Add(time.Second), StatePrincipal: "unix:0", StateReason: "leaked",
			DestroyTime: at.Add(3 * time.Second), RestoreTo: kms.StateRevoked, Epoch: 1, FirstUse: at.Add(2 * time.Second),
			Check: []byte{0, 0xff, 0x80}, RequestID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
			RequestDigest: bytes.Repeat([]byte{7}, 32), Revision: 9,
		}, {
			Name: orders.Version(2), UID: hsm.UID{15: 2}, State: kms.StateEnabled, CreateTime: at, Epoch: 4294967295,
			Check: []byte{1}, RequestID: `"`, Revision: 9,
		}, {
			Name: cards.Version(1), UID: hsm.UID{15: 3}, State: kms.StateEnabled, CreateTime: at, Check: []byte{2}, Revision: 2,
		}},
		Orphans: []*kms.Orphan{{
			UID: hsm.UID{15: 4}, Label: "keyholt:0123456789abcdef:1774744215", DestroyTime: at.Add(3 * time.Second),
			Principal: "unix:0", Revision: 11,
		}},
		ImportJobs: []*kms.ImportJob{{
			Name: laptop, UID: hsm.UID{15: 5}, Method: kms.ImportRSA3072SHA256, State: kms.ImportJobActive, CreateTime: at,
			CreatedBy: "unix:0", ExpireTime: at.Add(3 * time.Second), PublicKey: []byte{0x30, 0x82, 0, 1}, Revision: 10,
		}},
	}
	if diff := cmp.Diff(want, got.Contents, cmpopts.EquateEmpty(),
		cmp.AllowUnexported(kms.NamespaceName{}, kms.KeyName{}, kms.VersionName{}, kms.ImportJobName{})); diff != "" {
		t.Errorf("the golden backup (-want +got):\n%s", diff)
	}
}

// TestBackupOfLostSealKey holds that a backup whose seal key the token does not hold says
// so, and is not taken for a damaged one.
func TestBackupOfLostSealKey(t *testing.T) {
	_, store := openStore(t, storePath(t))
	text := strings.Replace(string(readGoldenBackup(t)), goldenSealKey, "00000000000000000000000000000001", 1)
	if _, err := store.ReadBackup(t.Context(), strings.NewReader(text)); !errors.Is(err, kms.ErrTokenRefused) {
		t.Errorf("ReadBackup: %v", err)
	}
}

// failingWriter takes n bytes.
type failingWriter struct{ n int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if len(p) > w.n {
		return w.n, errors.New("no more room")
	}
	w.n -= len(p)
	return len(p), nil
}

func TestBackupWriterFails(t *testing.T) {
	_, store := openStore(t, storePath(t))
	sample(t, store)
	for _, n := range []int{0, 100, 1000} {
		if _, err := store.Backup(t.Context(), &failingWriter{n}); err == nil || !strings.Contains(err.Error(), "no more room") {
			t.Errorf("Backup to a writer of %d bytes: %v", n, err)
		}
	}
}

// FuzzReadBackup holds that nothing but the backup itself passes, apart from what JSON
// allows to be written in several ways, and that nothing makes the reader fail in another
// way than by an error of its own.
func FuzzReadBackup(f *testing.F) {
	named := cmp.AllowUnexported(kms.NamespaceName{}, kms.KeyName{}, kms.VersionName{}, kms.ImportJobName{})
	golden := readGoldenBackup(f)
	f.Add(golden)
	lines := bytes.SplitAfter(golden, []byte("\n"))
	for i, line := range lines {
		f.Add(bytes.Replace(golden, line, nil, 1))
		f.Add(golden[:len(golden)*i/len(lines)])
	}
	_, store := openStore(f, storePath(f))
	want, err := store.ReadBackup(f.Context(), bytes.NewReader(golden))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := store.ReadBackup(t.Context(), bytes.NewReader(text))
		switch {
		case err == nil:
			if diff := cmp.Diff(want, got, named); diff != "" {
				t.Errorf("another backup passes:\n%s", diff)
			}
		case !errors.Is(err, kms.ErrInvalidRequest) && !errors.Is(err, kms.ErrTampered) && !errors.Is(err, kms.ErrTokenRefused):
			t.Errorf("ReadBackup: %v", err)
		}
	})
}
