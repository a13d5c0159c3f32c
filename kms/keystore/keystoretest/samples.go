package keystoretest

import (
	"crypto/rand"
	"crypto/sha256"
	"math"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// sampleTime is when the samples were made: not in UTC, and with microseconds.
var sampleTime = time.Date(2026, 3, 29, 2, 30, 15, 123456000, time.FixedZone("CEST", 2*60*60))

// Namespace returns a namespace that is not stored yet.
func Namespace(t testing.TB, id string) *kms.Namespace {
	t.Helper()
	name, err := kms.NewNamespaceName(id)
	if err != nil {
		t.Fatal(err)
	}
	return &kms.Namespace{Name: name, CreateTime: sampleTime, CreatedBy: "unix:1000"}
}

// Key returns a key of the namespace that is not stored yet, with labels that are hard
// to encode and without a primary version.
func Key(t testing.TB, namespace *kms.Namespace, id string, profile kms.Profile) *kms.Key {
	t.Helper()
	name, err := kms.NewKeyName(namespace.Name, id)
	if err != nil {
		t.Fatal(err)
	}
	return &kms.Key{
		Name:      name,
		Purpose:   kms.PurposeEncryptDecrypt,
		Algorithm: kms.AlgorithmAES256,
		Profile:   profile,
		Labels: map[string]string{
			"zone": "a", "env": "prod", "": "empty name", "quote": `"<&>\`, "umlaut": "Schlüssel",
		},
		RotationPeriod: 90*24*time.Hour + time.Nanosecond,
		CreateTime:     sampleTime.Add(time.Second),
		CreatedBy:      "x509:CN=billing,O=Example",
	}
}

// Orphan returns an orphan that is not stored yet.
func Orphan() *kms.Orphan {
	return &kms.Orphan{
		UID:         randomUID(),
		Label:       "keyholt:0123456789abcdef:1774744215",
		DestroyTime: sampleTime.Add(30 * 24 * time.Hour),
		Principal:   "unix:0",
	}
}

// ImportJob returns an import job of the namespace that is not stored yet, with every field
// set.
func ImportJob(t testing.TB, namespace *kms.Namespace, id string) *kms.ImportJob {
	t.Helper()
	name, err := kms.NewImportJobName(namespace.Name, id)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(id))
	return &kms.ImportJob{
		Name:       name,
		UID:        randomUID(),
		Method:     kms.ImportRSA4096SHA1,
		State:      kms.ImportJobActive,
		CreateTime: sampleTime,
		CreatedBy:  "unix:1000",
		ExpireTime: sampleTime.Add(3 * 24 * time.Hour),
		PublicKey:  digest[:20],
		Attributes: kms.ObjectAttributes{
			Attributes: hsm.Attributes{Local: hsm.ReportedTrue, Extractable: hsm.ReportedFalse},
			Mechanisms: []string{"CKM_RSA_PKCS_OAEP"},
		},
		RequestID:     "6ba7b811-9dad-11d1-80b4-00c04fd430c8",
		RequestDigest: digest[:],
	}
}

func randomUID() (uid hsm.UID) {
	_, _ = rand.Read(uid[:]) // never fails
	return uid
}

// Version returns a version of the key that is not stored yet, ENABLED and with every
// field set.
func Version(key *kms.Key, number uint32) *kms.Version {
	digest := sha256.Sum256([]byte(key.Name.String()))
	return &kms.Version{
		Name:           key.Name.Version(number),
		UID:            randomUID(),
		State:          kms.StateEnabled,
		CreateTime:     sampleTime.Add(2 * time.Second),
		StateTime:      sampleTime.Add(3 * time.Second),
		StatePrincipal: "unix:0",
		StateReason:    "the reason\nof two lines",
		DestroyTime:    sampleTime.Add(24 * time.Hour),
		RestoreTo:      kms.StateRevoked,
		Epoch:          math.MaxUint32,
		FirstUse:       sampleTime.Add(4 * time.Second),
		Check:          digest[:16],
		Attributes: kms.ObjectAttributes{
			Attributes: hsm.Attributes{
				Local: hsm.ReportedTrue, Sensitive: hsm.ReportedTrue, AlwaysSensitive: hsm.ReportedFalse, Private: hsm.ReportedTrue,
				Extractable: hsm.ReportedFalse, NeverExtractable: hsm.ReportedTrue, Modifiable: hsm.ReportedTrue,
				KeyGenMechanism: "CKM_AES_KEY_GEN",
			},
			Mechanisms: []string{"CKM_AES_ECB"},
		},
		Imported:      true,
		RequestID:     "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		RequestDigest: digest[:],
	}
}
