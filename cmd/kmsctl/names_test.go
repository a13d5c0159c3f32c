package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

func TestParseNames(t *testing.T) {
	namespace, err := kms.NewNamespaceName("default")
	if err != nil {
		t.Fatal(err)
	}
	key := func(arg string) (string, error) {
		name, err := parseKey(arg, namespace)
		return name.String(), err
	}
	version := func(arg string) (string, error) {
		name, err := parseVersion(arg, namespace)
		return name.String(), err
	}
	ofNamespace := func(arg string) (string, error) {
		name, err := parseNamespace(arg)
		return name.String(), err
	}
	tests := []struct {
		parse     func(string) (string, error)
		arg, want string // no want: a usage error
	}{
		{ofNamespace, "shop", "namespaces/shop"},
		{ofNamespace, "namespaces/shop", "namespaces/shop"},
		{ofNamespace, "namespaces", "namespaces/namespaces"},
		{ofNamespace, "Shop", ""},
		{ofNamespace, "", ""},
		{ofNamespace, "shop/orders", ""},

		{key, "orders", "namespaces/default/keys/orders"},
		{key, "shop/orders", "namespaces/shop/keys/orders"},
		{key, "namespaces/shop/keys/orders", "namespaces/shop/keys/orders"},
		{key, "orders/3", "namespaces/orders/keys/3"},
		{key, "namespaces/orders", "namespaces/namespaces/keys/orders"},
		{key, "", ""},
		{key, "/orders", ""},
		{key, "shop/", ""},
		{key, "a/b/c", ""},
		{key, "namespaces/shop/key/orders", ""},
		{key, "namespaces/shop/keys/orders/versions/1", ""},
		{key, "Orders", ""},
		{key, "../../etc", ""},

		{version, "orders/3", "namespaces/default/keys/orders/versions/3"},
		{version, "a/3", "namespaces/default/keys/a/versions/3"},
		{version, "shop/orders/3", "namespaces/shop/keys/orders/versions/3"},
		{version, "orders/versions/3", "namespaces/default/keys/orders/versions/3"},
		{version, "shop/orders/versions/3", "namespaces/shop/keys/orders/versions/3"},
		{version, "versions/3", "namespaces/default/keys/versions/versions/3"},
		{
			version, "namespaces/shop/keys/orders/versions/3",
			"namespaces/shop/keys/orders/versions/3",
		},
		{version, "orders", ""},
		{version, "", ""},
		{version, "3", ""},
		{version, "orders/", ""},
		{version, "orders/0", ""},
		{version, "orders/03", ""},
		{version, "orders/+3", ""},
		{version, "orders/latest", ""},
		{version, "orders/4294967296", ""},
		{version, "namespaces/shop/keys/orders/3", "namespaces/shop/keys/orders/versions/3"},
		{version, "a/b/c/d/5", ""},
	}
	for _, test := range tests {
		got, err := test.parse(test.arg)
		if test.want == "" {
			var usage *usageError
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), test.arg) {
				t.Errorf("%q: got %s, %v; want a usage error that quotes it", test.arg, got, err)
			}
			continue
		}
		if err != nil || got != test.want {
			t.Errorf("%q: got %s, %v; want %s", test.arg, got, err, test.want)
		}
	}
}
