package grpcapi

import (
	"context"
	"log/slog"
	"strings"
	"time"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// unaryChain is what every request passes through, outermost first. All that refuses
// comes before any work is done.
func unaryChain(cfg *Config, admission *admission) []grpc.UnaryServerInterceptor {
	return []grpc.UnaryServerInterceptor{
		logUnary(cfg.Logger),
		statusUnary(cfg.Logger),
		recovery.UnaryServerInterceptor(), // its error has the stack, for the log
		auth.UnaryServerInterceptor(authenticate),
		ours(admission.admit),
		ours(checkRequest),
		ours(deadline(cfg.MaxDeadline)),
		ours(wipeRequest),
	}
}

// streamChain is the same for streams. Those of the health and the reflection service end
// with lifetime, when the server drains; the service's own have their deadline.
func streamChain(lifetime context.Context, cfg *Config, admission *admission) []grpc.StreamServerInterceptor {
	return []grpc.StreamServerInterceptor{
		logStream(cfg.Logger),
		statusStream(cfg.Logger),
		recovery.StreamServerInterceptor(),
		auth.StreamServerInterceptor(authenticate),
		others(endWith(lifetime)),
		oursStream(admission.admitStream),
		oursStream(deadlineStream(cfg.MaxStreamDeadline)),
		oursStream(checkStream),
	}
}

// isOurs tells the methods of this service from those that gRPC brings.
func isOurs(fullMethod string) bool { return strings.HasPrefix(fullMethod, "/keyholt.") }

// ours confines an interceptor to the methods of this service.
func ours(interceptor grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if !isOurs(info.FullMethod) {
			return handler(ctx, req)
		}
		return interceptor(ctx, req, info, handler)
	}
}

// oursStream is the same for streams.
func oursStream(interceptor grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if !isOurs(info.FullMethod) {
			return handler(srv, stream)
		}
		return interceptor(srv, stream, info, handler)
	}
}

// others confines an interceptor to the streams that gRPC brings.
func others(interceptor grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if isOurs(info.FullMethod) {
			return handler(srv, stream)
		}
		return interceptor(srv, stream, info, handler)
	}
}

// authenticate refuses whoever has no identity; it adds nothing to the context: the
// handlers take the principal from the connection themselves, see principal.
func authenticate(ctx context.Context) (context.Context, error) {
	_, err := principal(ctx)
	return ctx, err
}

// Identified is what the AuthInfo of a connection must be: it knows who is at the other
// end.
type Identified interface {
	// Identity returns the principal. The error matches [kms.ErrUnauthenticated].
	Identity(now time.Time) (kms.Principal, error)
}

// principal is who made the request, as its connection was authenticated.
func principal(ctx context.Context) (kms.Principal, error) {
	p, _ := peer.FromContext(ctx)
	if p != nil {
		if known, ok := p.AuthInfo.(Identified); ok {
			return known.Identity(time.Now())
		}
	}
	return kms.Principal{}, &kms.Error{
		Sentinel: kms.ErrUnauthenticated, Message: "the connection has no identity",
	}
}

// checkRequest refuses requests beyond the published size, with too many items, or with
// fields that nobody here knows.
func checkRequest(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := checkMessage(req); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func checkMessage(message any) error {
	if m, ok := message.(proto.Message); ok {
		return wire.Check(m)
	}
	return nil
}

// checkStream is the same for each message that a stream brings.
func checkStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, checkedStream{stream})
}

type checkedStream struct{ grpc.ServerStream }

// RecvMsg receives a message and refuses what checkRequest would.
func (s checkedStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	return checkMessage(message)
}

// deadline ends requests that have no earlier deadline.
func deadline(most time.Duration) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if at, ok := ctx.Deadline(); ok && time.Until(at) <= most {
			return handler(ctx, req)
		}
		ctx, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		return handler(ctx, req)
	}
}

// deadlineStream is the same for streams.
func deadlineStream(most time.Duration) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, cancel := context.WithTimeout(stream.Context(), most)
		defer cancel()
		wrapped := middleware.WrapServerStream(stream)
		wrapped.WrappedContext = ctx
		return handler(srv, wrapped)
	}
}

// wipeRequest overwrites what secrets a request holds once it is served: the API keeps
// none of a request's bytes, and no response shares them.
func wipeRequest(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	defer wire.Wipe(req)
	return handler(ctx, req)
}

// endWith cancels a stream's context when lifetime ends. A client that watches its
// health would keep a draining server alive until the timeout.
func endWith(lifetime context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(lifetime, cancel)()
		wrapped := middleware.WrapServerStream(stream)
		wrapped.WrappedContext = ctx
		return handler(srv, wrapped)
	}
}

// report logs errors that leave as INTERNAL, under the identifier that the caller got.
func report(ctx context.Context, logger *slog.Logger) wire.Report {
	return func(id string, err error) {
		logger.ErrorContext(ctx, "internal error", "error_id", id, "error", err.Error())
	}
}
