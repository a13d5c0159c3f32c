package grpcapi

import (
	"context"
	"errors"
	"log/slog"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// statusUnary makes errors into statuses, in one place for all methods.
func statusUnary(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := handler(ctx, req)
		if err != nil {
			return nil, statusError(ctx, logger, err)
		}
		return resp, nil
	}
}

// statusStream is the same for streams.
func statusStream(logger *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if err := handler(srv, stream); err != nil {
			return statusError(stream.Context(), logger, err)
		}
		return nil
	}
}

// statusError is what leaves the server. Why an error came about is for the log alone.
func statusError(ctx context.Context, logger *slog.Logger, err error) error {
	var e *kms.Error
	if !errors.As(err, &e) {
		// What gRPC's own services return is a status already.
		var s interface{ GRPCStatus() *status.Status }
		if errors.As(err, &s) {
			return s.GRPCStatus().Err()
		}
	}
	logging.AddFields(ctx, logging.Fields{"reason", wire.Reason(err)})
	if e != nil && e.Cause != nil {
		logging.AddFields(ctx, logging.Fields{"cause", e.Cause.Error()})
	}
	return wire.ToStatus(err, report(ctx, logger)).Err()
}
