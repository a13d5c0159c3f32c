package kms_test

import (
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

func TestNamesParse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for _, good := range []string{
		"namespaces/default/keys/orders/versions/1",
		"namespaces/0/keys/a.b_c-d/versions/2147483647",
		"namespaces/" + long + "/keys/" + long + "/versions/10",
	} {
		name, err := kms.ParseVersionName(good)
		if err != nil || name.String() != good || name.IsZero() {
			t.Errorf("ParseVersionName(%q) = %q, %v", good, name, err)
		}
		key, err := kms.ParseKeyName(name.Key().String())
		if err != nil || key != name.Key() {
			t.Errorf("ParseKeyName(%q) = %q, %v", name.Key(), key, err)
		}
		namespace, err := kms.ParseNamespaceName(key.Namespace().String())
		if err != nil || namespace != key.Namespace() {
			t.Errorf("ParseNamespaceName(%q) = %q, %v", key.Namespace(), namespace, err)
		}
	}
	for _, bad := range []string{
		"", "/", "namespaces", "namespaces/", "namespaces/default/keys/", "namespaces/default/keys/orders/versions/",
		"namespaces/default/keys/orders/versions/0", "namespaces/default/keys/orders/versions/01",
		"namespaces/default/keys/orders/versions/+1", "namespaces/default/keys/orders/versions/-1",
		"namespaces/default/keys/orders/versions/2147483648", "namespaces/default/keys/orders/versions/1/",
		"namespaces/default/keys/orders/versions/1/versions/1", "Namespaces/default/keys/orders/versions/1",
		"namespaces/Default/keys/orders/versions/1", "namespaces/-a/keys/orders/versions/1",
		"namespaces/.a/keys/orders/versions/1", "namespaces/a b/keys/orders/versions/1",
		"namespaces/a\x00/keys/orders/versions/1", "namespaces/ä/keys/orders/versions/1",
		"namespaces/" + long + "a/keys/orders/versions/1", "projects/default/keys/orders/versions/1",
	} {
		if name, err := kms.ParseVersionName(bad); err == nil {
			t.Errorf("ParseVersionName(%q) = %q", bad, name)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("namespaces/default/keys/orders/versions/1")
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := kms.ParseVersionName(s); err == nil && name.String() != s {
			t.Fatalf("%q parses as %q", s, name)
		}
		if name, err := kms.ParseKeyName(s); err == nil && name.String() != s {
			t.Fatalf("%q parses as %q", s, name)
		}
		if name, err := kms.ParseNamespaceName(s); err == nil && name.String() != s {
			t.Fatalf("%q parses as %q", s, name)
		}
	})
}
