// Package kms is the domain of Keyholt: namespaces, keys, key versions and their
// states, and the [Service] that lets a principal use them.
//
// Everything a caller can ask for goes through one choke point (perform.go): the
// principal is authorised, the key version is looked up in the current [Snapshot], its
// state is checked, the token and the host do the work, state and authorisation are
// checked again if anything has changed meanwhile, the [Auditor] is told, and only
// then is the result released.
//
// The package knows nothing of gRPC, protobuf, SQL or PKCS#11. What it needs from
// outside it declares as small interfaces: [Store], [Authorizer], [Auditor] and the
// [hsm.Token]. Errors of the token never leave the package: each becomes one of the
// sentinels in errors.go.
//
// A Service may be used by many goroutines at once.
package kms
