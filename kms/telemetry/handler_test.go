package telemetry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHandler(t *testing.T) {
	healthy := false
	server := httptest.NewServer(NewMetrics("v1.2.3").Handler(func() bool { return healthy }))
	defer server.Close()
	ask := func(method, path string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, http.NoBody)
		must(t, err)
		response, err := server.Client().Do(request)
		must(t, err)
		defer func() { must(t, response.Body.Close()) }()
		body, err := io.ReadAll(response.Body)
		must(t, err)
		return response.StatusCode, string(body)
	}

	code, body := ask(http.MethodGet, "/metrics")
	if code != http.StatusOK || !strings.Contains(body, `version="v1.2.3"} 1`) || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics: %d\n%s", code, body)
	}
	if code, body := ask(http.MethodGet, "/healthz"); code != http.StatusServiceUnavailable || body != "NOT_SERVING\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	healthy = true
	if code, body := ask(http.MethodGet, "/healthz"); code != http.StatusOK || body != "SERVING\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	for _, other := range [][2]string{{http.MethodPost, "/metrics"}, {http.MethodGet, "/"}, {http.MethodGet, "/debug/pprof/"}} {
		if code, _ := ask(other[0], other[1]); code != http.StatusNotFound && code != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %d", other[0], other[1], code)
		}
	}
}
