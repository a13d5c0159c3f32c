// Package hsm holds the words of a hardware security module: the [Token]
// contract, key specifications, object attributes and the sentinel errors.
//
// A Token is one logged-in PKCS#11 token. The contract speaks of flat bytes and
// key UIDs only: no handles, no sessions, no pointers into a module, so that an
// implementation may sit behind a process boundary. Package pkcs11hsm implements
// it over a PKCS#11 module; package hsmtest implements it in memory and holds the
// suite that every implementation passes.
//
// The package never imports cgo and never sees the value of a key: a Token has no
// method that returns one. A caller chooses a key's value only where the key is gone with
// the process ([Objects.ImportSessionKey]), or where it is marked as imported for ever and
// its value reaches the token wrapped ([Importer]).
//
// All methods of a Token may be called concurrently.
package hsm
