package grpcapi

import (
	"context"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/keyholt/keyholt/kms"
)

// admission bounds the requests under way. Whoever comes too many is told at once and
// may try again: a queue would only make everybody late.
type admission struct {
	most    int64
	serving atomic.Int64
}

func newAdmission(most int) *admission { return &admission{most: int64(most)} }

func (a *admission) admit(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	defer a.leave()
	if err := a.enter(); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// admitStream is the same for a stream, which counts as one request as long as it lasts.
func (a *admission) admitStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	defer a.leave()
	if err := a.enter(); err != nil {
		return err
	}
	return handler(srv, stream)
}

// enter counts a request in. Who was refused leaves too.
func (a *admission) enter() error {
	if a.serving.Add(1) <= a.most {
		return nil
	}
	return &kms.Error{
		Sentinel: kms.ErrOverloaded,
		Message:  fmt.Sprintf("%d requests are under way, and that is the limit; nothing was begun", a.most),
	}
}

func (a *admission) leave() { a.serving.Add(-1) }
