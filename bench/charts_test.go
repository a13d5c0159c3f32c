package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fullReport has a figure for every scenario of the full suite.
func fullReport() *Report {
	r := &Report{Format: reportFormat, Suite: "full", Settings: Settings{Rounds: 2}}
	for n, g := range Full() {
		for i, s := range g.Scenarios {
			result := resultOf(s, float64(1000*(i+1)), float64(1100*(i+n+1)))
			result.Group = g.Name
			for k := range result.Rounds {
				result.Rounds[k].P999 = 5e6
				result.Rounds[k].OfferedPerSecond = s.Load * 10_000
			}
			result.Median = medianRound(result.Rounds)
			r.Scenarios = append(r.Scenarios, result)
		}
	}
	r.judge(Claims(), 0)
	return r
}

func TestChartsHaveEveryPoint(t *testing.T) {
	points := map[string]int{}
	for _, c := range fullReport().charts() {
		for _, s := range c.series {
			points[c.name] += len(s.points)
			for i := 1; i < len(s.points); i++ {
				if s.points[i].x <= s.points[i-1].x {
					t.Errorf("%s, %s: two points at %v", c.name, s.name, s.points[i].x)
				}
			}
		}
	}
	want := map[string]int{
		"throughput-by-batch-size": 3 * len(batchSizes),
		"latency-by-load":          2 * 3 * len(loads),
		"effect-of-hsm-latency":    3 * len(hsmLatencies),
	}
	for name, n := range want {
		if points[name] != n {
			t.Errorf("%s has %d points, want %d", name, points[name], n)
		}
	}
}

func TestPlotsAndPage(t *testing.T) {
	r := fullReport()
	r.Scenarios[0].FirstFail = "<script>alert(1)</script>"
	r.Token = json.RawMessage(`{"figures": [{"operation": "encrypt_blocks", "items_per_second": 1234567, "p50_ns": 5000}]}`)
	dir := t.TempDir()
	if err := r.WritePlots(dir); err != nil {
		t.Fatal(err)
	}
	for _, c := range r.charts() {
		svg, err := os.ReadFile(filepath.Join(dir, c.name+".svg"))
		if err != nil || !strings.Contains(string(svg), "<svg") {
			t.Errorf("%s.svg: %v, %d bytes", c.name, err, len(svg))
		}
		png, err := os.ReadFile(filepath.Join(dir, c.name+".png"))
		if err != nil || !bytes.HasPrefix(png, []byte("\x89PNG\r\n\x1a\n")) {
			t.Errorf("%s.png: %v, %d bytes", c.name, err, len(png))
		}
	}
	path := filepath.Join(dir, "page", "report.html")
	if err := r.WritePage(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	if n := strings.Count(page, "<svg"); n != 3 {
		t.Errorf("the page has %d plots, want 3", n)
	}
	for _, elsewhere := range []string{" src=", "<link", "url(", "<script>"} {
		if strings.Contains(page, elsewhere) {
			t.Errorf("the page has %q: it must need nothing else, and show text as text", elsewhere)
		}
	}
	for _, want := range []string{"encrypt_blocks", "1,230,000", "unwrap_batch1024_vs_echo", "&lt;script&gt;"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestNoChartsWithoutFigures(t *testing.T) {
	if c := reportOf(resultOf(unary, 1)).charts(); len(c) != 0 {
		t.Errorf("one point makes %d plots", len(c))
	}
}
