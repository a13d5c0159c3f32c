package grpcapi

import (
	"context"
	"log/slog"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// One line per request when it has ended: who, which method, how it ended, how long it
// took. Never what was in it: the middleware's payload events stay off.

func logUnary(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return logging.UnaryServerInterceptor(lines(logger), logOptions()...)
}

func logStream(logger *slog.Logger) grpc.StreamServerInterceptor {
	return logging.StreamServerInterceptor(lines(logger), logOptions()...)
}

func logOptions() []logging.Option {
	return []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithLevels(level),
		logging.WithDurationField(logging.DurationToDurationField),
		logging.WithFieldsFromContext(func(ctx context.Context) logging.Fields {
			p, err := principal(ctx)
			if err != nil {
				return nil
			}
			return logging.Fields{"principal", p.Name}
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
