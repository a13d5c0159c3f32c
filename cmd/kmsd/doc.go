// Command kmsd is the Keyholt server: gRPC on top, a PKCS#11 token below, and the
// wiring between them. `kmsd serve` runs with a configuration file, `kmsd dev` without
// any on a SoftHSM2 token of its own; both take the same way through [run].
//
// Secrets never stand in arguments, in the configuration file or in the log: the PIN of
// the token is read from a file of its own.
package main
