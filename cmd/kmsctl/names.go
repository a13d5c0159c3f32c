package main

import (
	"strings"

	"github.com/keyholt/keyholt/kms"
)

// Names on the command line are resource names or shorter. They are told apart by their
// number of segments, so that no name means two things:
//
//	namespace  shop                 namespaces/shop
//	key        orders               namespaces/default/keys/orders, or in --namespace
//	           shop/orders          namespaces/shop/keys/orders
//	version    orders/3             orders/versions/3
//	           shop/orders/3        shop/orders/versions/3
//
// Three segments with "versions" in the middle are KEY/versions/N: version 3 of the key
// "versions" in another namespace needs --namespace or the full name.

// parseNamespace parses a namespace argument.
func parseNamespace(arg string) (kms.NamespaceName, error) {
	parse := kms.NewNamespaceName
	if strings.Contains(arg, "/") {
		parse = kms.ParseNamespaceName
	}
	name, err := parse(arg)
	if err != nil {
		return kms.NamespaceName{}, usagef("namespace %q: %v", arg, err)
	}
	return name, nil
}

// parseKey parses a key argument.
func parseKey(arg string, namespace kms.NamespaceName) (kms.KeyName, error) {
	full := arg
	switch segments := strings.Split(arg, "/"); len(segments) {
	case 1:
		full = namespace.String() + "/keys/" + arg
	case 2:
		full = "namespaces/" + segments[0] + "/keys/" + segments[1]
	case 4:
	default:
		return kms.KeyName{}, usagef("key %q: want KEY, NAMESPACE/KEY or namespaces/NAMESPACE/keys/KEY", arg)
	}
	name, err := kms.ParseKeyName(full)
	if err != nil {
		return kms.KeyName{}, usagef("key %q: %v", arg, err)
	}
	return name, nil
}

// parseVersion parses a key version argument.
func parseVersion(arg string, namespace kms.NamespaceName) (kms.VersionName, error) {
	segments := strings.Split(arg, "/")
	last := len(segments) - 1
	if last < 1 {
		return kms.VersionName{}, usagef("key version %q: want KEY/VERSION, such as %s/1", arg, arg)
	}
	ofKey := segments[:last]
	if last > 1 && segments[last-1] == "versions" {
		ofKey = segments[:last-1]
	}
	key, err := parseKey(strings.Join(ofKey, "/"), namespace)
	if err != nil {
		return kms.VersionName{}, usagef("key version %q: want KEY/VERSION, NAMESPACE/KEY/VERSION or "+
			"namespaces/NAMESPACE/keys/KEY/versions/VERSION", arg)
	}
	name, err := kms.ParseVersionName(key.String() + "/versions/" + segments[last])
	if err != nil {
		return kms.VersionName{}, usagef("key version %q: %v", arg, err)
	}
	return name, nil
}
