package telemetry

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
)

// queueMetrics are those of the queue in which requests for one key wait for each other,
// to be merged into one call of the token.
type queueMetrics struct {
	wait    prometheus.Histogram
	merged  prometheus.Histogram
	dropped *prometheus.CounterVec

	*queueCollector
}

func newQueueMetrics() queueMetrics {
	return queueMetrics{
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "keyholt_queue_wait_seconds",
			Help:    "Time that a request for the token waited for those before it; 0 if it went at once.",
			Buckets: durationBuckets(),
		}),
		merged: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "keyholt_queue_requests_per_call",
			Help:    "Requests that one call of the token served.",
			Buckets: countBuckets(),
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyholt_queue_dropped_total",
			Help: "Requests that left the queue without a call of the token, by reason.",
		}, []string{"reason"}),
		queueCollector: &queueCollector{},
	}
}

func (q *queueMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{q.wait, q.merged, q.dropped, q.queueCollector}
}

// dropReason is why a request left the queue.
func dropReason(err error) string {
	switch {
	case errors.Is(err, hsm.ErrBusy):
		return "busy"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	default:
		return "refused"
	}
}

// QueueObserver is for the Observe of a [coalesce.Config]; nil if both are.
func QueueObserver(m *Metrics, t *Tracing) func(coalesce.Event) {
	if m == nil && t == nil {
		return nil
	}
	return func(e coalesce.Event) {
		if m != nil {
			m.queue.observe(&e)
		}
		t.queued(&e)
	}
}

func (q *queueMetrics) observe(e *coalesce.Event) {
	switch e.Kind {
	case coalesce.EventRequest:
		q.wait.Observe(e.Wait.Seconds())
	case coalesce.EventCall:
		q.merged.Observe(float64(e.Requests))
	case coalesce.EventDropped:
		q.dropped.WithLabelValues(dropReason(e.Err)).Inc()
	}
}

// Queue makes stats the source of what the queue holds at the moment.
func (m *Metrics) Queue(stats func() coalesce.Stats) {
	if m != nil {
		m.queue.stats.Store(&stats)
	}
}

var (
	queueRequestsDesc = prometheus.NewDesc("keyholt_queue_requests", "Requests that wait for the token.", nil, nil)
	queueBytesDesc    = prometheus.NewDesc("keyholt_queue_bytes", "Bytes of requests that wait for the token.", nil, nil)
	queueInFlightDesc = prometheus.NewDesc("keyholt_queue_calls_in_flight", "Calls of the token under way.", nil, nil)
)

// queueCollector collects the state of the moment.
type queueCollector struct {
	stats atomic.Pointer[func() coalesce.Stats] // nil: there is no queue
}

// Describe implements [prometheus.Collector].
func (*queueCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- queueRequestsDesc
	descs <- queueBytesDesc
	descs <- queueInFlightDesc
}

// Collect implements [prometheus.Collector].
func (q *queueCollector) Collect(metrics chan<- prometheus.Metric) {
	stats := q.stats.Load()
	if stats == nil {
		return
	}
	now := (*stats)()
	for _, gauge := range []struct {
		desc  *prometheus.Desc
		value int
	}{
		{queueRequestsDesc, now.QueueRequests}, {queueBytesDesc, now.QueueBytes}, {queueInFlightDesc, now.InFlight},
	} {
		metrics <- prometheus.MustNewConstMetric(gauge.desc, prometheus.GaugeValue, float64(gauge.value))
	}
}
