package bench

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const metricsText = `# HELP keyholt_token_calls_total Operations that the module ran.
# TYPE keyholt_token_calls_total counter
keyholt_token_calls_total{operation="encrypt_blocks"} 12
keyholt_token_calls_total{operation="open"} 3
keyholt_token_calls_total{operation="random"} 100
keyholt_items_total{action="UnwrapDataKey",outcome="OK"} 1.2288e+04
keyholt_items_total{action="UnwrapDataKey",outcome="DECRYPTION_FAILED"} 7
go_goroutines 12
`

func TestParseCounters(t *testing.T) {
	c, err := parseCounters(strings.NewReader(metricsText))
	if err != nil {
		t.Fatal(err)
	}
	if want := (counters{tokenCalls: 15, items: 12288}); c != want {
		t.Errorf("counters are %+v, want %+v", c, want)
	}
	if _, err := parseCounters(strings.NewReader("keyholt_items_total many\n")); err == nil {
		t.Error("a value that is no number was taken")
	}
}

func TestReadCounters(t *testing.T) {
	healthy := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(metricsText))
	}))
	defer server.Close()
	if c, err := readCounters(t.Context(), server.URL); err != nil || c.items != 12288 {
		t.Errorf("counters %+v, error %v", c, err)
	}
	healthy = false
	if _, err := readCounters(t.Context(), server.URL); err == nil {
		t.Error("an error of the server was taken for metrics")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := readCounters(ended, server.URL); err == nil {
		t.Error("no error after the context's end")
	}
}
