package telemetry

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/keyholt/keyholt/kms"
)

func readRepositoryFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	must(t, err)
	return string(text)
}

// ours tells the metrics that docs/observability.md lists from those of the Go runtime.
func ours(name string) bool {
	return strings.HasPrefix(name, "keyholt_") || strings.HasPrefix(name, "grpc_")
}

// families are our metrics, each with at least one series.
func families(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	m := NewMetrics("v1.2.3")
	w := newWorld(t, m, nil)
	must(t, w.unwrap(t.Context(), w.generate(t, w.createKey(t, "orders", kms.ProfileDerived), 1)...))
	m.queue.dropped.WithLabelValues("busy")
	gathered, err := m.registry.Gather()
	must(t, err)
	gathered = slices.DeleteFunc(gathered, func(f *dto.MetricFamily) bool { return !ours(f.GetName()) })

	descs := make(chan *prometheus.Desc, 1000)
	m.registry.Describe(descs)
	close(descs)
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for desc := range descs {
		described := name.FindStringSubmatch(desc.String())[1]
		if ours(described) && !slices.ContainsFunc(gathered, func(f *dto.MetricFamily) bool { return f.GetName() == described }) {
			t.Errorf("%s has no series, so nothing is checked of it", described)
		}
	}
	return gathered
}

// TestEveryMetricIsDocumented: the table is the one that the registry makes.
func TestEveryMetricIsDocumented(t *testing.T) {
	var table strings.Builder
	for _, f := range families(t) {
		var labels []string
		for _, pair := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+pair.GetName()+"`")
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()),
			strings.Join(labels, ", "), f.GetHelp())
	}
	want := strings.ReplaceAll(table.String(), "|  |", "| |")
	if !strings.Contains(readRepositoryFile(t, "docs/observability.md"), want) {
		t.Errorf("docs/observability.md does not have the table of metrics:\n%s", want)
	}
}

// TestEverySpanIsDocumented does the same for spans and their attributes.
func TestEverySpanIsDocumented(t *testing.T) {
	doc := readRepositoryFile(t, "docs/observability.md")
	names := []string{
		spanQueueWait, spanTokenCall,
		string(attributeOperation), string(attributeBytes), string(attributeItems), string(attributeOutcome),
	}
	for _, name := range spanNames {
		names = append(names, name)
	}
	for _, name := range names {
		if !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("docs/observability.md does not have `%s`", name)
		}
	}
	for _, name := range operationNames {
		if !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("docs/observability.md does not have the operation `%s`", name)
		}
	}
	for _, row := range tokenOutcomes {
		if !strings.Contains(doc, "`"+row.name+"`") {
			t.Errorf("docs/observability.md does not have the outcome `%s`", row.name)
		}
	}
}

// TestDashboard: the dashboard is JSON, and asks for metrics and labels that there are.
func TestDashboard(t *testing.T) {
	type target struct{ Expr string }
	type panel struct {
		ID      int
		Title   string
		Type    string
		Targets []target
	}
	var dashboard struct {
		UID    string
		Title  string
		Panels []panel
	}
	must(t, json.Unmarshal([]byte(readRepositoryFile(t, "deploy/grafana/keyholt.json")), &dashboard))
	known := map[string]bool{"process_resident_memory_bytes": true, "process_cpu_seconds_total": true, "go_goroutines": true}
	for _, f := range families(t) {
		known[f.GetName()] = true
		if f.GetType() == dto.MetricType_HISTOGRAM {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				known[f.GetName()+suffix] = true
			}
		}
	}
	metric := regexp.MustCompile(`\b(?:keyholt|grpc|go|process)_[a-z_]+\b`)
	asked, ids := make(map[string]bool), make(map[int]bool)
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: the id is taken, or there is no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			names := metric.FindAllString(regexp.MustCompile(`\{[^}]*\}|by \([^)]*\)`).ReplaceAllString(target.Expr, ""), -1)
			if len(names) == 0 {
				t.Errorf("panel %q asks for no metric: %s", p.Title, target.Expr)
			}
			for _, name := range names {
				asked[name] = true
				if !known[name] {
					t.Errorf("panel %q asks for %s, which there is not", p.Title, name)
				}
			}
		}
	}
	if dashboard.UID == "" || dashboard.Title == "" || len(asked) < 15 {
		t.Errorf("the dashboard %q (%s) asks for %d metrics", dashboard.Title, dashboard.UID, len(asked))
	}
}
