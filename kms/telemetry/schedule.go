package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyholt/keyholt/kms"
)

// Schedule makes take the source of what the service does by itself at set times.
func (m *Metrics) Schedule(take func() kms.Schedule) {
	if m == nil {
		return
	}
	m.schedule.mu.Lock()
	defer m.schedule.mu.Unlock()
	m.schedule.take = take
}

var (
	rotationsDesc = prometheus.NewDesc("keyholt_scheduled_rotations_total",
		"Rotations that this replica has made by itself, or failed to, by outcome.", []string{"outcome"}, nil)
	nextRotationDesc = prometheus.NewDesc("keyholt_scheduled_rotation_next_seconds",
		"Unix time (seconds) of the next rotation by period; 0: none is scheduled.", nil, nil)
	destructionsDesc = prometheus.NewDesc("keyholt_scheduled_destructions_total",
		"Key objects that this replica has destroyed because their time had come, or failed to, by outcome.", []string{"outcome"}, nil)
	nextDestructionDesc = prometheus.NewDesc("keyholt_scheduled_destruction_next_seconds",
		"Unix time (seconds) of the next destruction of a key object; 0: none is scheduled.", nil, nil)
)

// schedule collects a kms.Schedule.
type schedule struct {
	mu   sync.Mutex
	take func() kms.Schedule // nil: none yet
}

// Describe implements [prometheus.Collector].
func (*schedule) Describe(descs chan<- *prometheus.Desc) {
	descs <- rotationsDesc
	descs <- nextRotationDesc
	descs <- destructionsDesc
	descs <- nextDestructionDesc
}

// Collect implements [prometheus.Collector].
func (s *schedule) Collect(metrics chan<- prometheus.Metric) {
	s.mu.Lock()
	take := s.take
	s.mu.Unlock()
	if take == nil {
		return
	}
	told := take()
	counts := func(desc *prometheus.Desc, done, failed uint64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(done), "done")
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(failed), "failed")
	}
	next := func(desc *prometheus.Desc, at time.Time) {
		value := 0.0
		if !at.IsZero() {
			value = float64(at.UnixMilli()) / 1000
		}
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	counts(rotationsDesc, told.Rotations, told.RotationsFailed)
	next(nextRotationDesc, told.NextRotation)
	counts(destructionsDesc, told.Destructions, told.DestructionsFailed)
	next(nextDestructionDesc, told.NextDestruction)
}
