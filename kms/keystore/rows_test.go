package keystore

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
)

// Keys of every algorithm are read as they were written.
func TestKeysOfEveryAlgorithm(t *testing.T) {
	t.Parallel()
	namespace := keystoretest.Namespace(t, "shop")
	for _, a := range kms.Algorithms() {
		profiles := []kms.Profile{0}
		if a.Purpose() == kms.PurposeEncryptDecrypt {
			profiles = []kms.Profile{kms.ProfileDerived, kms.ProfileStrict}
		}
		for _, profile := range profiles {
			key := keystoretest.Key(t, namespace, "k", profile)
			key.Purpose, key.Algorithm = a.Purpose(), a
			r, err := keyRecord(key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := readKeyOf(namespace.Name, r)
			if err != nil {
				t.Fatalf("%s: %v", a, err)
			}
			if diff := cmp.Diff(key, got, cmp.AllowUnexported(kms.KeyName{}, kms.NamespaceName{})); diff != "" {
				t.Errorf("%s: (-written +read)\n%s", a, diff)
			}
		}
	}
}

// Attributes are read as they were written: what the token denies is told from what it
// does not say, and an empty list of mechanisms from none.
func TestAttributes(t *testing.T) {
	t.Parallel()
	for _, want := range []kms.ObjectAttributes{
		{},
		{Mechanisms: []string{}},
		{Mechanisms: []string{"CKM_RSA_PKCS", "CKM_RSA_PKCS_PSS"}},
		{Attributes: hsm.Attributes{Local: hsm.ReportedFalse}},
		{Attributes: hsm.Attributes{
			Local: hsm.ReportedTrue, Sensitive: hsm.ReportedTrue, AlwaysSensitive: hsm.ReportedTrue, Extractable: hsm.ReportedFalse,
			NeverExtractable: hsm.ReportedTrue, Modifiable: hsm.ReportedTrue, Copyable: hsm.ReportedFalse, Private: hsm.ReportedTrue,
			KeyGenMechanism: "CKM_EC_KEY_PAIR_GEN",
		}},
		{Attributes: hsm.Attributes{KeyGenMechanism: "CKM_EC_KEY_PAIR_GEN"}},
	} {
		text, err := attributesValue(&want)
		if err != nil {
			t.Fatal(err)
		}
		known := make(map[string]kms.ObjectAttributes)
		for range 2 { // read, and read from what is known
			c := columns{values: []any{text}}
			if got := c.attributes(known); c.err != nil || !cmp.Equal(want, got) {
				t.Errorf("%s: %v, %s", text, c.err, cmp.Diff(want, got))
			}
		}
	}
	c := columns{values: []any{`{"local":`}}
	if got := c.attributes(nil); c.err == nil {
		t.Errorf("read %+v", got)
	}
}
