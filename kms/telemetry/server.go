package telemetry

import (
	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"google.golang.org/grpc"
)

// newServerMetrics are those of go-grpc-middleware, under the names that its users know.
func newServerMetrics() *grpcprometheus.ServerMetrics {
	return grpcprometheus.NewServerMetrics(
		grpcprometheus.WithServerHandlingTimeHistogram(grpcprometheus.WithHistogramBuckets(durationBuckets())),
	)
}

// ServerOptions make a gRPC server count and time its requests. They come before the
// server's own interceptors, so that what those refuse is counted too. Only methods that
// the server has become label values.
func (m *Metrics) ServerOptions() []grpc.ServerOption {
	if m == nil {
		return nil
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(m.server.UnaryServerInterceptor()),
		grpc.ChainStreamInterceptor(m.server.StreamServerInterceptor()),
	}
}
