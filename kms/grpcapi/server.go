package grpcapi

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

const (
	// hardLimit is where the transport itself stops reading a request, with a status
	// that knows no reasons. It is twice the published limit, so that a caller who is
	// over by a batch or so hears LIMIT_EXCEEDED instead.
	hardLimit = 2 * wire.MaxMessageBytes

	connectionTimeout = 10 * time.Second // of a handshake
	keepaliveTime     = time.Minute      // of silence, before a client is asked whether it lives
	keepaliveTimeout  = 20 * time.Second // for its answer
	minPingInterval   = 10 * time.Second // more often is abuse
	maxHeaderBytes    = 16 << 10
	// streamWorkers are goroutines that serve one request after the other. A new one for
	// each request has to grow its stack again. Requests beyond them get new ones.
	streamWorkers = 256
	// streamWindow and connectionWindow are how many bytes of requests may be under way. That
	// they are fixed keeps gRPC from asking for the length of the path all the time: a ping,
	// its answer and the wake-ups for both in each round trip, in both directions.
	streamWindow     = 1 << 20
	connectionWindow = 4 << 20
)

// Server serves one API on any number of listeners.
type Server struct {
	cfg      Config
	grpc     *grpc.Server
	health   *health.Server
	draining context.CancelFunc // ends streams that would never end by themselves
}

// New makes a server. It serves nothing before [Server.Serve], whose end is that of the
// server's goroutines, too.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.API == nil {
		return nil, errors.New("grpcapi: an API is required")
	}
	lifetime, draining := context.WithCancel(context.Background())
	s := &Server{cfg: cfg, grpc: transport(lifetime, &cfg), health: health.NewServer(), draining: draining}
	kmsv1.RegisterKeyServiceServer(s.grpc, &keyService{api: cfg.API})
	kmsv1.RegisterCryptoServiceServer(s.grpc, &cryptoService{api: cfg.API, logger: cfg.Logger})
	kmsv1.RegisterImportServiceServer(s.grpc, &importService{api: cfg.API})
	kmsv1.RegisterSystemServiceServer(s.grpc, &systemService{
		api: cfg.API, version: cfg.Version, maxRestoreBytes: cfg.MaxRestoreBytes,
	})
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)

	s.SetServing(false)
	s.health.SetServingStatus(kmsv1.SystemService_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	return s, nil
}

// Transport makes a gRPC server with everything that a request passes through before its
// handler and after it, as [New] configures it: connections and their limits, the codec,
// the interceptors. It has no services: they are the caller's to register. What the
// handlers cost is measured against it. cfg.API is not used.
func Transport(cfg Config) (*grpc.Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return transport(context.Background(), &cfg), nil
}

// transport is a server without services. lifetime ends streams that would never end by
// themselves.
func transport(lifetime context.Context, cfg *Config) *grpc.Server {
	pool := newWipingPool()
	admission := newAdmission(cfg.MaxInFlight)
	return grpc.NewServer(append(slices.Clone(cfg.Watch),
		grpc.Creds(cfg.Credentials),
		grpc.ForceServerCodecV2(&wipingCodec{pool: pool}),
		experimental.BufferPool(pool),
		grpc.ChainUnaryInterceptor(unaryChain(cfg, admission)...),
		grpc.ChainStreamInterceptor(streamChain(lifetime, cfg, admission)...),
		grpc.MaxRecvMsgSize(hardLimit),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxConcurrentStreams(cfg.MaxConcurrentStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.ConnectionTimeout(connectionTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge:      cfg.MaxConnectionAge,
			MaxConnectionAgeGrace: cfg.MaxDeadline,
			Time:                  keepaliveTime,
			Timeout:               keepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             minPingInterval,
			PermitWithoutStream: true,
		}),
	)...)
}

// SetServing says whether keys can be used, which health checks of "", KeyService and
// CryptoService then tell. It is false until the first call. SystemService is always
// serving, so that an operator can ask what is wrong. After a drain has begun it has no
// effect.
func (s *Server) SetServing(ok bool) {
	state := healthv1.HealthCheckResponse_NOT_SERVING
	if ok {
		state = healthv1.HealthCheckResponse_SERVING
	}
	for _, service := range []string{
		"", kmsv1.KeyService_ServiceDesc.ServiceName, kmsv1.CryptoService_ServiceDesc.ServiceName,
		kmsv1.ImportService_ServiceDesc.ServiceName,
	} {
		s.health.SetServingStatus(service, state)
	}
}

// Serve serves the listeners until ctx ends or one of them fails, then drains: health
// checks say NOT_SERVING, clients are told to go elsewhere, requests under way may end
// within the drain timeout. It closes the listeners, and returns when nothing runs any
// more: nil if ctx ended, else the listener's error. A server serves once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	if len(listeners) == 0 {
		return errors.New("grpcapi: nothing to listen on")
	}
	group, failed := errgroup.WithContext(ctx)
	for _, listener := range listeners {
		group.Go(func() error {
			err := s.grpc.Serve(listener)
			if errors.Is(err, grpc.ErrServerStopped) && ctx.Err() != nil {
				err = nil // the drain came before this goroutine did; gRPC has closed the listener
			}
			return err
		})
	}
	group.Go(func() error {
		<-failed.Done()
		s.drain()
		return nil
	})
	return group.Wait()
}

func (s *Server) drain() {
	s.health.Shutdown()
	s.draining()
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	patience := time.NewTimer(s.cfg.DrainTimeout)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
		s.cfg.Logger.Warn("requests under way were cut off", "drain_timeout", s.cfg.DrainTimeout)
		s.grpc.Stop()
		<-done
	}
}
