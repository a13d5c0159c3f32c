// Package hsmtest tests implementations of the [hsm.Token] contract and code that
// uses one.
//
//   - [Run] is the contract suite: it must pass for every implementation.
//   - [Memory] is a token in memory. What it computes is real AES; its objects
//     outlive the [MemoryToken] that made them, so that a test can close a token
//     and open it again as a restarted process would.
//   - [Faults] wraps any token and fails, holds or counts its calls.
//
// Nothing here protects a key: the package is for tests only, and production code
// must not import it.
package hsmtest
