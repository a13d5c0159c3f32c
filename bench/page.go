package bench

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

// pageChart is a plot on the page.
type pageChart struct {
	Title, Note string
	Image       template.HTML
}

// tokenFigure is a line of `kmsd hsm bench --json`.
type tokenFigure struct {
	Operation      string        `json:"operation"`
	Bytes          int           `json:"bytes"`
	Items          int           `json:"items"`
	Callers        int           `json:"callers"`
	CallsPerSecond float64       `json:"calls_per_second"`
	ItemsPerSecond float64       `json:"items_per_second"`
	P50            time.Duration `json:"p50_ns"`
	P99            time.Duration `json:"p99_ns"`
}

// WritePage writes the report as one page of HTML that needs no other file.
func (r *Report) WritePage(path string) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"number": number, "micros": microseconds, "value": value, "cpu": cpu, "calls": tokenCalls,
		"bound":   func(c ClaimResult) string { return c.bound() },
		"verdict": func(c ClaimResult) string { return c.verdict() },
		"spread":  func(c ClaimResult) string { return c.spread() },
		"sides":   func(c ClaimResult) string { return c.sides() },
		"nanos":   func(d time.Duration) string { return microseconds(float64(d.Nanoseconds()) / 1e3) },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	var images []pageChart
	for _, c := range r.charts() {
		svg, err := c.draw("svg")
		if err != nil {
			return err
		}
		_, element, _ := strings.Cut(string(svg), "<svg")                                    // without the XML declaration
		images = append(images, pageChart{c.title, c.note, template.HTML("<svg" + element)}) //nolint:gosec // drawn above, from numbers
	}
	var token struct {
		Figures []tokenFigure `json:"figures"`
	}
	if len(r.Token) > 0 {
		if err := json.Unmarshal(r.Token, &token); err != nil {
			return fmt.Errorf("the token's rates: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = page.Execute(file, map[string]any{"Report": r, "Charts": images, "Token": token.Figures, "Busy": r.busy()})
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}
