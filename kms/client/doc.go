// Package client is what an application imports to use Keyholt.
//
// A [Profile] says where the service is and what proves who the caller is; [Dial]
// makes a [Client] of it, one per process. With the client, an application
//
//   - encrypts messages on its own machine ([DataKeys.Seal], [DataKeys.Open]), or streams
//     of any size ([Client.EncryptStream], [Client.DecryptStream]): the service then sees
//     data keys and never the data;
//   - takes, wraps and unwraps data keys itself ([DataKeys.Generate], [DataKeys.Wrap],
//     [DataKeys.Unwrap]), at the speed of batches: concurrent callers share RPCs;
//   - signs and decrypts with private keys that stay in the HSM ([Client.Signer],
//     [Client.Decrypter]), through crypto.Signer and crypto.Decrypter; concurrent callers of
//     signers share RPCs, too;
//   - makes any other call, in domain terms ([Client.API]) or with the generated gRPC stubs
//     ([Client.Keys], [Client.Crypto], [Client.Imports], [Client.System]).
//
// Package tinkaead makes a key an AEAD of Tink, packages sshsigner and josesigner make one a
// signer of SSH and of JSON Web Tokens.
//
// Plaintext data keys that this package holds for a moment are overwritten after use.
// Copies in the buffers of gRPC and TLS, and the key schedules that Go's AES keeps on the
// heap, are not. Nothing is cached unless asked for ([WithUnwrapCache], [WithSealReuse]).
//
// The package never links the server and needs no cgo. A Client and what it makes may be
// used by many goroutines at once.
package client
