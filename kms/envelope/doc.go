// Package envelope knows the bytes of a Keyholt ciphertext and nothing else: the blob layout, the canonical additional
// authenticated data, the host's half of XAES-256-GCM over keys that the HSM derives, and the headers of an encrypted
// file and an encrypted message. FORMAT.md beside this file is the specification; its test vectors are checked by this
// package's tests.
//
// The package performs no I/O apart from reading the operating system's random generator, holds no keys between calls,
// and must never try a second key: a blob names exactly one key version.
//
// All functions may be called concurrently. A [Binding] is immutable and may be shared; a [MaskKey] may be shared until
// it is wiped; slices of [OpenItem] and [SealItem] belong to one goroutine at a time, but disjoint parts of one slice
// may be worked on in parallel.
package envelope
