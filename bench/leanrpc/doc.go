// Package leanrpc makes unary gRPC calls and takes as little of the machine for it as it
// can: what a load generator should be that shares its cores with the server it measures.
//
// A call of grpc-go's client takes some 15 µs of CPU, a third of what kmsd takes for a
// P-256 signature. It has good reasons: name resolution, balancing, retries, interceptors,
// flow control by stream, messages of any size. A load generator needs none of them. Here
// a call is two frames in a buffer that callers share, sent by whichever of them comes
// first, and one goroutine reads the answers; it takes some 6 µs.
//
// On the wire it is what every gRPC client sends: HTTP/2 (RFC 9113) in TLS with
// header compression (RFC 7541), and gRPC's message framing and trailers
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). Requests must fit
// into one frame, there is no compression, a connection that was lost is not made anew, and
// whoever makes the calls sees to it that there are no more at a time than the peer takes.
package leanrpc
