package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyholt/keyholt/kms"
)

// Replica makes take the source of how this replica stands.
func (m *Metrics) Replica(take func() kms.ReplicaStatus) {
	if m == nil {
		return
	}
	m.replica.mu.Lock()
	defer m.replica.mu.Unlock()
	m.replica.take = take
}

var (
	revisionDesc = prometheus.NewDesc("keyholt_replica_revision",
		"Revision of the metadata that this replica has applied.", nil, nil)
	leaseDesc = prometheus.NewDesc("keyholt_replica_lease_valid",
		"1 if this replica may serve: its lease is valid, or it is alone on its store; else 0.", nil, nil)
)

// replicaMetrics are how this replica stands, and how long changes take to be known by all.
type replicaMetrics struct {
	mu     sync.Mutex
	take   func() kms.ReplicaStatus // nil: none yet
	spread prometheus.Histogram
}

func newReplicaMetrics() *replicaMetrics {
	return &replicaMetrics{
		spread: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "keyholt_change_spread_seconds",
			Help:    "Time from the commit of a change until every replica had applied it or was seen to hold no lease.",
			Buckets: durationBuckets(),
		}),
	}
}

// count counts a change that came to be known everywhere.
func (r *replicaMetrics) count(e *kms.Event) {
	if e.Spread != nil && e.Err == nil {
		r.spread.Observe(e.Spread.Took.Seconds())
	}
}

// Describe implements [prometheus.Collector].
func (r *replicaMetrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- revisionDesc
	descs <- leaseDesc
	r.spread.Describe(descs)
}

// Collect implements [prometheus.Collector].
func (r *replicaMetrics) Collect(metrics chan<- prometheus.Metric) {
	r.spread.Collect(metrics)
	r.mu.Lock()
	take := r.take
	r.mu.Unlock()
	if take == nil {
		return
	}
	status := take()
	valid := 0.0
	if status.Serving {
		valid = 1
	}
	metrics <- prometheus.MustNewConstMetric(revisionDesc, prometheus.GaugeValue, float64(status.Revision))
	metrics <- prometheus.MustNewConstMetric(leaseDesc, prometheus.GaugeValue, valid)
}
