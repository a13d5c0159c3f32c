// Package wire translates between the wire contract (proto/keyholt/kms/v1) and the
// domain (package kms), in both directions, and holds the only table of errors: which
// gRPC code and reason each sentinel of the domain has.
//
// EncodeX makes the proto message X and cannot fail. DecodeX reads one. Decoding a
// request collects every malformed field into one [kms.ErrInvalidRequest]; a malformed
// item of a batch becomes DataKeyItem.Invalid and leaves its neighbours alone. Decoding
// a response fails with [ErrMalformedResponse] only.
//
// Byte slices are shared between message and domain value, never copied. Neither may be
// changed while the other is in use; [Wipe] on the one empties the other.
//
// The package does no I/O and keeps nothing between calls. All functions may be called
// concurrently.
package wire

//go:generate go run ./gendocs -o ../../docs/errors.md
