package telemetry

import (
	"math"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// clock is a time that a test sets.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestWindow(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	w := window{now: c.now}
	steps := []struct {
		after             time.Duration
		dividend, divisor uint64
		want              float64
	}{
		{0, 0, 0, math.NaN()},
		{10 * time.Second, 10, 5, 2},                // since the start
		{10 * time.Second, 10, 5, 2},                // nothing new
		{30 * time.Second, 11, 15, 11.0 / 15},       // all within a minute
		{20 * time.Second, 12, 25, 2.0 / 20},        // since the sample at 10 s
		{time.Hour, 13, 35, 1.0 / 10},               // since the sample before
		{100 * time.Millisecond, 23, 36, 11.0 / 11}, // as before, and not kept: too close
		{time.Hour, 23, 36, 10.0 / 1},
		{time.Minute, 30, 36, math.NaN()}, // calls without a request
		{time.Minute, 31, 40, 1.0 / 4},
	}
	for i, step := range steps {
		c.at = c.at.Add(step.after)
		got := w.ratio(step.dividend, step.divisor)
		if got != step.want && !(math.IsNaN(got) && math.IsNaN(step.want)) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	for range 10_000 {
		c.at = c.at.Add(time.Second)
		w.ratio(1, 1)
	}
	if n := len(w.samples); n > 2+int(windowLength/windowStep) {
		t.Errorf("%d samples are kept", n)
	}
}

// TestInventoryIsCached: however many scrape, keys are counted once in a while.
func TestInventoryIsCached(t *testing.T) {
	m := NewMetrics("v1.2.3")
	if m.has(t, `keyholt_namespaces`) {
		t.Error("namespaces before there is a service")
	}
	c, taken := &clock{time.Unix(1_000_000, 0)}, 0
	m.keys.inventory.now = c.now
	m.Inventory(func() kms.Inventory {
		taken++
		return kms.Inventory{Namespaces: taken}
	})
	for _, step := range []struct {
		after time.Duration
		want  float64
	}{{0, 1}, {inventoryAge - 1, 1}, {1, 2}, {inventoryAge, 3}} {
		c.at = c.at.Add(step.after)
		m.want(t, map[string]float64{`keyholt_namespaces`: step.want})
	}
}

// TestEveryStateIsCounted: a state or profile that the domain has is in the lists here.
func TestEveryStateIsCounted(t *testing.T) {
	states, profiles := make(map[string]bool), make(map[string]bool)
	for n := range 256 {
		states[kms.State(n).String()] = true
		profiles[kms.Profile(n).String()] = true
	}
	// One name is for what is none of them.
	if len(states) != len(everyState)+1 {
		t.Errorf("the domain has %d states, counted are %d", len(states)-1, len(everyState))
	}
	if len(profiles) != len(everyProfile)+1 {
		t.Errorf("the domain has %d profiles, counted are %d", len(profiles)-1, len(everyProfile))
	}
}
