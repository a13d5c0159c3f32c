package telemetry

import (
	"runtime"

	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics are the metrics of one server, in a registry of their own. Make them with
// NewMetrics; nil means none.
type Metrics struct {
	registry *prometheus.Registry

	server   *grpcprometheus.ServerMetrics
	request  *requestMetrics
	audit    auditMetrics
	store    storeMetrics
	token    tokenMetrics
	queue    queueMetrics
	keys     keyMetrics
	schedule *schedule
	replica  *replicaMetrics
}

// NewMetrics returns metrics of which nothing is watched yet. version is the server's.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		server:   newServerMetrics(),
		request:  newRequestMetrics(),
		audit:    newAuditMetrics(),
		store:    newStoreMetrics(),
		queue:    newQueueMetrics(),
		keys:     newKeyMetrics(),
		schedule: new(schedule),
		replica:  newReplicaMetrics(),
	}
	m.token = newTokenMetrics(m.request.dataRequests.Load)
	m.registry.MustRegister( // which fails on nothing but names given twice
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newBuildInfo(version),
		m.server,
	)
	for _, part := range [][]prometheus.Collector{
		m.request.collectors(), m.audit.collectors(), m.store.collectors(),
		m.token.collectors(), m.queue.collectors(), m.keys.collectors(), {m.schedule, m.replica},
	} {
		m.registry.MustRegister(part...)
	}
	return m
}

func newBuildInfo(version string) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "keyholt_build_info",
		Help:        "Always 1; the labels say which build of kmsd runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	info.Set(1)
	return info
}

// durationBuckets cover what is measured here, from a hit in memory to a network token
// that hangs: 20 µs to 20 s.
func durationBuckets() []float64 {
	return []float64{
		20e-6, 50e-6, 100e-6, 200e-6, 500e-6,
		1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 200e-3, 500e-3,
		1, 2, 5, 10, 20,
	}
}

// countBuckets cover numbers of items, of which a request has at most 4,096.
func countBuckets() []float64 {
	return []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}
}
