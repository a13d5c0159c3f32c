package grpcapi

import (
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/keyholt/keyholt/kms"
)

// Config says what a Server serves, to whom, and within which limits. API, Credentials
// and Logger are required; zero limits are the defaults.
type Config struct {
	API kms.API
	// Credentials authenticate connections: their AuthInfo must be an [Identified].
	Credentials credentials.TransportCredentials
	Logger      *slog.Logger
	Version     string // of the server, for Diagnose
	// Watch are interceptors and stats handlers, for metrics and traces. They are around
	// all others: they see each request, and each status as the caller does.
	Watch []grpc.ServerOption

	// MaxInFlight is how many requests are served at once; more are refused before any
	// work. Default 1024.
	MaxInFlight int
	// MaxConcurrentStreams bounds the requests of one connection. Default 256.
	MaxConcurrentStreams uint32
	// MaxDeadline ends each request that has no earlier deadline of its own. Default
	// one minute.
	MaxDeadline time.Duration
	// MaxStreamDeadline is the same for requests that are streams: backups and their
	// restoration. Default ten minutes.
	MaxStreamDeadline time.Duration
	// MaxRestoreBytes is the most bytes of a backup that is restored: it is held in
	// memory. Default 256 MiB.
	MaxRestoreBytes int64
	// MaxConnectionAge is when a client is asked to connect again, and so to prove
	// again who it is, to the certificates of that time. Default one hour.
	MaxConnectionAge time.Duration
	// DrainTimeout is how long requests under way may take when the server stops.
	// Default 30 seconds.
	DrainTimeout time.Duration
}

// withDefaults returns a copy with every limit set.
func (c Config) withDefaults() (Config, error) {
	if c.Credentials == nil || c.Logger == nil {
		return c, errors.New("grpcapi: Credentials and Logger are required")
	}
	if c.MaxInFlight < 0 || c.MaxDeadline < 0 || c.MaxConnectionAge < 0 || c.DrainTimeout < 0 ||
		c.MaxStreamDeadline < 0 || c.MaxRestoreBytes < 0 {
		return c, errors.New("grpcapi: a limit is negative")
	}
	setDefault(&c.MaxInFlight, 1024)
	setDefault(&c.MaxConcurrentStreams, 256)
	setDefault(&c.MaxDeadline, time.Minute)
	setDefault(&c.MaxStreamDeadline, 10*time.Minute)
	setDefault(&c.MaxRestoreBytes, 256<<20)
	setDefault(&c.MaxConnectionAge, time.Hour)
	setDefault(&c.DrainTimeout, 30*time.Second)
	return c, nil
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}
