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
	defer a.serving.Add(-1)
	if a.serving.Add(1) > a.most {
		return nil, &kms.Error{
			Sentinel: kms.ErrOverloaded,
			Message:  fmt.Sprintf("%d requests are under way, and that is the limit; nothing was begun", a.most),
		}
	}
	return handler(ctx, req)
}
