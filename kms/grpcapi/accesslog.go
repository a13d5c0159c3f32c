package grpcapi

import (
	"context"
	"log/slog"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// One line per request when it has ended: who, which method, how it ended, how long it
// took. Never what was in it: the middleware's payload events stay off.

func logUnary(logger *slog.Logger) grpc.UnaryServerInterceptor {
	logged := logging.UnaryServerInterceptor(lines(logger), logOptions()...)
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if logger.Enabled(ctx, slog.LevelDebug) {
			return logged(ctx, req, info, handler)
		}
		// Nobody reads the line about a success, and to make it takes a fifth of the time that
		// the server itself needs for a small request.
		began := time.Now()
		ctx = logging.InjectFields(ctx, nil) // which statusUnary adds to
		resp, err := handler(ctx, req)
		if err == nil {
			return resp, nil
		}
		return logged(context.WithValue(ctx, beganKey{}, began), req, info,
			func(context.Context, any) (any, error) { return resp, err })
	}
}

// beganKey is the context's key of the time at which a request began that has ended before
// its line is made.
type beganKey struct{}

func logStream(logger *slog.Logger) grpc.StreamServerInterceptor {
	return logging.StreamServerInterceptor(lines(logger), logOptions()...)
}

func logOptions() []logging.Option {
	return []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithLevels(level),
		logging.WithDurationField(logging.DurationToDurationField),
		logging.WithFieldsFromContext(func(ctx context.Context) logging.Fields {
			var fields logging.Fields
			if began, ok := ctx.Value(beganKey{}).(time.Time); ok {
				fields = logging.Fields{"grpc.start_time", began.Format(time.RFC3339), "grpc.duration", time.Since(began).String()}
			}
			if p, err := principal(ctx); err == nil {
				fields = append(fields, "principal", p.Name)
			}
			return fields
		}),
	}
}

// lines hands the middleware's lines to the logger, whose levels have the same numbers.
func lines(logger *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(ctx context.Context, level logging.Level, message string, fields ...any) {
		logger.Log(ctx, slog.Level(level), message, fields...) //nolint:sloglint // the message is one of the middleware's constants
	})
}

// level of the line about a request: a success is not news, and a caller's mistake is
// not the operator's.
func level(code codes.Code) logging.Level {
	switch code {
	case codes.OK:
		return logging.LevelDebug
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return logging.LevelError
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded:
		return logging.LevelWarn
	default:
		return logging.LevelInfo
	}
}
