// Package client is what an application imports to use Keyholt.
//
// A [Profile] says where the service is and what proves who the caller is; [Dial]
// makes a [Client] of it. The client gives the generated gRPC stubs ([Client.Keys],
// [Client.Crypto], [Client.System]), the same calls in domain terms ([Client.API]),
// and encryption of data of any size on the caller's own machine
// ([Client.EncryptStream], [Client.DecryptStream]): the service then sees a data key
// and never the data.
//
// The package never links the server and needs no cgo. A Client may be used by many
// goroutines at once; one per process is enough.
package client
