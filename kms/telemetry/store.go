package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyholt/keyholt/kms"
)

// storeMetrics are those of the store of metadata.
type storeMetrics struct {
	commits  *prometheus.CounterVec
	duration prometheus.Histogram
}

func newStoreMetrics() storeMetrics {
	return storeMetrics{
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyholt_store_commits_total",
			Help: "Changes of metadata committed, by outcome: OK or the reason of the error.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "keyholt_store_commit_duration_seconds",
			Help:    "Time of a commit.",
			Buckets: durationBuckets(),
		}),
	}
}

func (s *storeMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.commits, s.duration}
}

// Store returns inner, watched.
func (m *Metrics) Store(inner kms.Store) kms.Store {
	if m == nil {
		return inner
	}
	return &store{Store: inner, metrics: &m.store}
}

// store passes on all methods but Update as they are.
type store struct {
	kms.Store
	metrics *storeMetrics
}

// Update implements [kms.Store]. What makes no change is not counted.
func (s *store) Update(
	ctx context.Context, since kms.Revision, build func(*kms.Delta) (*kms.Change, error),
) (kms.Head, error) {
	began := time.Now()
	changes := false
	head, err := s.Store.Update(ctx, since, func(delta *kms.Delta) (*kms.Change, error) {
		change, err := build(delta)
		changes = err == nil && change != nil
		return change, err
	})
	if changes || err != nil {
		s.metrics.duration.Observe(time.Since(began).Seconds())
		s.metrics.commits.WithLabelValues(outcomeOf(err)).Inc()
	}
	return head, err
}
