package telemetry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// outcomeOK is the outcome of what succeeded; the others are the reasons of the table of
// errors.
const outcomeOK = "OK"

func outcomeOf(err error) string {
	if err == nil {
		return outcomeOK
	}
	return wire.Reason(err)
}

// requestMetrics count what passes the choke point of the service. Each request does so
// once, and its audit event tells all that is to be counted.
type requestMetrics struct {
	requests *prometheus.CounterVec
	items    *prometheus.CounterVec
	sizes    *prometheus.HistogramVec

	// Those of actions that succeeded, looked up once.
	okRequests, okItems byAction[prometheus.Counter]
	sizesOf             byAction[prometheus.Observer] // whatever the outcome

	dataRequests atomic.Uint64 // requests with items
}

// byAction keeps the metrics of one vector by action: looking one up by its labels takes
// longer than counting.
type byAction[M any] struct {
	known sync.Map // of kms.Action to M
	make  func(action string) M
}

func (b *byAction[M]) of(action kms.Action) M {
	if m, ok := b.known.Load(action); ok {
		return m.(M) //nolint:errcheck,forcetypeassert // the map holds nothing else
	}
	m := b.make(string(action)) // the same whoever asks
	b.known.Store(action, m)
	return m
}

func newRequestMetrics() *requestMetrics {
	r := &requestMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyholt_requests_total",
			Help: "Requests that reached the service, by action and outcome: OK or the reason of the error.",
		}, []string{"action", "outcome"}),
		items: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyholt_items_total",
			Help: "Items of data requests, by action and outcome: OK or the reason of the error.",
		}, []string{"action", "outcome"}),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "keyholt_request_items",
			Help:    "Items per data request.",
			Buckets: countBuckets(),
		}, []string{"action"}),
	}
	r.okRequests.make = func(action string) prometheus.Counter { return r.requests.WithLabelValues(action, outcomeOK) }
	r.okItems.make = func(action string) prometheus.Counter { return r.items.WithLabelValues(action, outcomeOK) }
	r.sizesOf.make = func(action string) prometheus.Observer { return r.sizes.WithLabelValues(action) }
	return r
}

func (r *requestMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{r.requests, r.items, r.sizes}
}

// count counts a request whose record ended with auditErr. Without a record nothing of it
// was released, and without success of the whole no item was.
func (r *requestMetrics) count(e *kms.Event, auditErr error) {
	whole := e.Err
	if auditErr != nil {
		whole = kms.ErrAuditUnavailable
	}
	counterOf(e.Action, whole, &r.okRequests, r.requests).Inc()
	if len(e.Items) == 0 {
		return
	}
	total := 0
	for i := range e.Items {
		item := &e.Items[i]
		err := whole
		if err == nil {
			err = item.Err
		}
		counterOf(e.Action, err, &r.okItems, r.items).Add(float64(item.Count))
		total += item.Count
	}
	r.sizesOf.of(e.Action).Observe(float64(total))
	r.dataRequests.Add(1)
}

// counterOf is the counter of an action with an outcome.
func counterOf(action kms.Action, err error, ok *byAction[prometheus.Counter], all *prometheus.CounterVec) prometheus.Counter {
	if err == nil {
		return ok.of(action)
	}
	return all.WithLabelValues(string(action), outcomeOf(err))
}

// auditMetrics are those of the audit log.
type auditMetrics struct {
	records  prometheus.Counter
	failures prometheus.Counter
	duration prometheus.Histogram
}

func newAuditMetrics() auditMetrics {
	return auditMetrics{
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyholt_audit_records_total",
			Help: "Audit records written.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyholt_audit_failures_total",
			Help: "Audit records that could not be written; each is a request that was refused.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "keyholt_audit_duration_seconds",
			Help:    "Time until an audit record was as durable as configured, or failed.",
			Buckets: durationBuckets(),
		}),
	}
}

func (a *auditMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{a.records, a.failures, a.duration}
}

// Auditor returns inner, watched: its records, and by them all requests and items.
func (m *Metrics) Auditor(inner kms.Auditor) kms.Auditor {
	if m == nil {
		return inner
	}
	return &auditor{inner: inner, metrics: m}
}

type auditor struct {
	inner   kms.Auditor
	metrics *Metrics
}

var _ kms.Auditor = (*auditor)(nil)

// Record implements [kms.Auditor].
func (a *auditor) Record(ctx context.Context, e *kms.Event) error {
	began := time.Now()
	err := a.inner.Record(ctx, e)
	m := &a.metrics.audit
	m.duration.Observe(time.Since(began).Seconds())
	if err == nil {
		m.records.Inc()
	} else {
		m.failures.Inc()
	}
	a.metrics.request.count(e, err)
	a.metrics.replica.count(e)
	return err
}
