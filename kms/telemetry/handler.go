package telemetry

import (
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	maxScrapes    = 4 // at once; more are told to come again
	scrapeTimeout = 10 * time.Second
)

// Handler serves GET /metrics, in the formats of Prometheus, and GET /healthz: 200 and
// SERVING, or 503 and NOT_SERVING, as healthy says. It asks nobody who they are.
func (m *Metrics) Handler(healthy func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		answer := "SERVING\n"
		if !healthy() {
			w.WriteHeader(http.StatusServiceUnavailable)
			answer = "NOT_SERVING\n"
		}
		_, _ = io.WriteString(w, answer) // who asked has gone
	})
	return mux
}
