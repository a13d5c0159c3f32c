package grpcapi

import (
	"context"
	"fmt"

	"google.golang.org/grpc/stats"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// requestSizes notes how many bytes a request had on the wire: the transport knows, and
// computing it again from the message would cost as much as decoding it.
type requestSizes struct{}

type requestSizeKey struct{}

// TagRPC makes the place to note the size in.
func (requestSizes) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, requestSizeKey{}, new(int))
}

// HandleRPC notes the size. It runs before the interceptors, in the same goroutine.
func (requestSizes) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if payload, ok := event.(*stats.InPayload); ok {
		if size, ok := ctx.Value(requestSizeKey{}).(*int); ok {
			*size = payload.Length
		}
	}
}

// TagConn does nothing.
func (requestSizes) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (requestSizes) HandleConn(context.Context, stats.ConnStats) {}

// checkSize refuses a request beyond the published limit.
func checkSize(ctx context.Context) error {
	size, ok := ctx.Value(requestSizeKey{}).(*int)
	if !ok || *size <= wire.MaxMessageBytes {
		return nil
	}
	return &kms.Error{
		Sentinel: kms.ErrLimitExceeded,
		Message:  fmt.Sprintf("the request has %d bytes, and %d is the limit", *size, wire.MaxMessageBytes),
	}
}
