// Package grpcapi serves a [kms.API] over gRPC: KeyService, CryptoService and
// SystemService, beside the standard health service and reflection.
//
// It holds the limits of the wire: size of messages, requests at once, deadlines, age of
// connections. What a request means it leaves to package wire, and what may be done to
// the API. Each request carries the principal that the connection was authenticated as,
// by the transport credentials (package authn); one without is refused.
//
// The package must never log a request or a response, only who asked for what and how
// it ended; and it never tells a caller more of an error than package wire allows.
//
// A Server may be used by many goroutines at once.
package grpcapi
