package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

func cmdFetch(ts *testscript.TestScript, args []string) {
	need(ts, args, "NAME", "PATH")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	url := "http://" + processNamed(ts, args[0]).address(ts, "metrics") + args[1]
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	ts.Check(err)
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	_, err = fmt.Fprintf(ts.Stdout(), "%d\n%s", response.StatusCode, body)
	ts.Check(err)
}

// spanCollector is an OpenTelemetry receiver that remembers the names of spans.
type spanCollector struct {
	collector.UnimplementedTraceServiceServer
	mu   sync.Mutex
	seen map[string]bool
}

type collectorKey struct{}

// Export implements [collector.TraceServiceServer].
func (c *spanCollector) Export(_ context.Context, m *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range m.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.seen[span.GetName()] = true
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (c *spanCollector) has(span string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[span]
}

func cmdCollect(ts *testscript.TestScript, _ []string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, collectorOf(ts))
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with the script
	}()
	ts.Defer(func() {
		server.Stop()
		<-served
	})
	ts.Setenv("COLLECTOR", listener.Addr().String())
}

func collectorOf(ts *testscript.TestScript) *spanCollector {
	c, ok := ts.Value(collectorKey{}).(*spanCollector)
	if !ok {
		ts.Fatalf("the script has no collector")
	}
	return c
}

func cmdCollected(ts *testscript.TestScript, args []string) {
	need(ts, args, "SPAN")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := collectorOf(ts)
	if err := poll(ctx, func() bool { return c.has(args[0]) }, nil); err != nil {
		ts.Fatalf("no span %q was received (%v); received: %v", args[0], err, c.seen)
	}
}
