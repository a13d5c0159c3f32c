package telemetry

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyholt/keyholt/hsm"
)

// tokenMetrics are those of the token.
type tokenMetrics struct {
	outcomes *prometheus.CounterVec
	duration *prometheus.HistogramVec
	bytes    *prometheus.CounterVec

	// Looked up once, for the calls that matter.
	ok        [operations]prometheus.Counter
	durations [operations]prometheus.Observer
	sizes     [operations]prometheus.Counter

	*tokenCollector
}

func newTokenMetrics(requests func() uint64) tokenMetrics {
	m := tokenMetrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyholt_token_operations_total",
			Help: "Uses of the token, after merging and before a long one is cut, by operation and outcome.",
		}, []string{"operation", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "keyholt_token_operation_duration_seconds",
			Help:    "Time of a use of the token, waiting for a session included.",
			Buckets: durationBuckets(),
		}, []string{"operation"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyholt_token_bytes_total",
			Help: "Bytes that were handed to the token, or asked of it as random ones.",
		}, []string{"operation"}),
		tokenCollector: &tokenCollector{requests: requests, window: window{now: time.Now}},
	}
	for op, name := range operationNames {
		m.ok[op] = m.outcomes.WithLabelValues(name, tokenOK)
		m.durations[op] = m.duration.WithLabelValues(name)
		m.sizes[op] = m.bytes.WithLabelValues(name)
	}
	return m
}

func (m *tokenMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.outcomes, m.duration, m.bytes, m.tokenCollector}
}

// observe counts a call that has ended.
func (m *tokenMetrics) observe(op operation, bytes int, took time.Duration, err error) {
	m.calls[op].Add(1)
	m.durations[op].Observe(took.Seconds())
	m.sizes[op].Add(float64(bytes))
	if err == nil {
		m.ok[op].Inc()
	} else {
		m.outcomes.WithLabelValues(operationNames[op], tokenOutcome(err)).Inc()
	}
	if op == opCheck && !errors.Is(err, context.Canceled) {
		m.down.Store(err != nil)
	}
}

// tokenSource is a token, as far as it can be asked for numbers. Each may be nil.
type tokenSource struct {
	calls    func() hsm.Calls
	inUse    func() int
	sessions func() int
}

func newTokenSource(inner hsm.Token) *tokenSource {
	s := &tokenSource{sessions: func() int { return inner.Info().Sessions }}
	if t, ok := inner.(interface{ Calls() hsm.Calls }); ok {
		s.calls = t.Calls
	}
	if t, ok := inner.(interface{ SessionsInUse() int }); ok {
		s.inUse = t.SessionsInUse
	}
	return s
}

var (
	callsDesc = prometheus.NewDesc("keyholt_token_calls_total",
		"Operations that the PKCS#11 module was given to run, by operation.", []string{"operation"}, nil)
	callsPerRequestDesc = prometheus.NewDesc("keyholt_token_calls_per_request",
		"Calls of the module for ciphers, per data request, over the last minute; NaN without a request.", nil, nil)
	upDesc = prometheus.NewDesc("keyholt_token_up",
		"1 if the token answered when it was last asked, else 0.", nil, nil)
	sessionsDesc      = prometheus.NewDesc("keyholt_token_sessions", "Sessions in the pool.", nil, nil)
	sessionsInUseDesc = prometheus.NewDesc("keyholt_token_sessions_in_use", "Sessions in use, those of lanes included, which are beside the pool.", nil, nil)
)

// tokenCollector collects what is only known when it is asked.
type tokenCollector struct {
	source   atomic.Pointer[tokenSource] // nil: none yet
	calls    [operations]atomic.Uint64
	down     atomic.Bool // at the last Check
	requests func() uint64
	window   window
}

// Describe implements [prometheus.Collector].
func (*tokenCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{callsDesc, callsPerRequestDesc, upDesc, sessionsDesc, sessionsInUseDesc} {
		descs <- desc
	}
}

// Collect implements [prometheus.Collector].
func (t *tokenCollector) Collect(metrics chan<- prometheus.Metric) {
	source := t.source.Load()
	if source == nil {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	calls := t.counts(source)
	for op, name := range operationNames {
		if source.calls != nil && (operation(op) == opSignBatch || operation(op) == opMACBatch) {
			continue // those of batches are among those of single items
		}
		metrics <- prometheus.MustNewConstMetric(callsDesc, prometheus.CounterValue, float64(calls[op]), name)
	}
	gauge(callsPerRequestDesc, t.window.ratio(calls[opEncryptBlocks]+calls[opSeal]+calls[opOpen], t.requests()))
	up := 1.0
	if t.down.Load() {
		up = 0
	}
	gauge(upDesc, up)
	gauge(sessionsDesc, float64(source.sessions()))
	if source.inUse != nil {
		gauge(sessionsInUseDesc, float64(source.inUse()))
	}
}

// counts are the calls of the module: its own count where it keeps one, else one for
// each use of the token.
func (t *tokenCollector) counts(source *tokenSource) (counts [operations]uint64) {
	for op := range counts {
		counts[op] = t.calls[op].Load()
	}
	if source.calls != nil {
		exact := source.calls()
		counts[opEncryptBlocks] = exact.EncryptBlocks
		counts[opSign], counts[opMAC] = exact.Sign, exact.MAC
		counts[opDecryptOAEP] = exact.DecryptOAEP
		counts[opSeal] = exact.Seal
		counts[opOpen] = exact.Open
		counts[opRandom] = exact.Random
	}
	return counts
}
