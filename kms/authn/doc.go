// Package authn establishes who is at the other end of a connection: the peer of a unix
// socket by its credentials, everybody else by a verified TLS client certificate.
//
// It happens once per connection, in the handshake; a connection without an identity is
// closed there. What may be done with an identity is none of this package's business.
//
// The package must never take a caller's word for who it is, and never lets anybody in
// without TLS 1.3 but through a unix socket.
//
// Transport credentials and TLS configurations may be used concurrently.
package authn
