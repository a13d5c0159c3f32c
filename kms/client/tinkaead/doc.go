// Package tinkaead makes a key of the service an AEAD of Tink
// (github.com/tink-crypto/tink-go): where a program has one from another key management
// service, the line that makes it is the only one to change.
//
//	remote := tinkaead.New(c, key)
//	envelope := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote) // data of any size
//	handle, err := keyset.Read(reader, remote)                                 // an encrypted keyset
//
// [New] is for programs that hold the AEAD themselves, [NewKMSClient] for those that name
// keys by URI.
//
// Each Encrypt and Decrypt is a call to the service, which has the plaintext in its hands
// for a moment; a plaintext is at most 64 KiB. Ciphertexts are those of the service's
// Encrypt, and other clients can read them. Everything here may be called concurrently.
package tinkaead
