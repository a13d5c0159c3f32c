package bench

import (
	"os"
	"strings"
	"testing"
)

// docs/benchmarks.md names every claim with its bounds.
func TestDocumentedClaims(t *testing.T) {
	text, err := os.ReadFile("../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			name, row, _ := strings.Cut(rest, "`")
			rows[name] = row
		}
	}
	for _, c := range Claims() {
		result := ClaimResult{AtLeast: c.AtLeast, AtMost: c.AtMost}
		bound, aim := result.bound(), "|"
		if c.Aim > 0 {
			aim = "| " + value(c.Aim) + " |"
		}
		if row, ok := rows[c.Name]; !ok || !strings.Contains(row, "| "+bound+" |") || !strings.HasSuffix(strings.TrimSpace(row), aim) {
			t.Errorf("docs/benchmarks.md has no row of %s with %q and an aim of %q; it has %q", c.Name, bound, aim, row)
		}
	}
}
