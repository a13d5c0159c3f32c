package coalesce

import (
	"testing"
	"time"
)

// TestPace: the mean follows the calls, and a token is slow only if all of its
// recent calls are.
func TestPace(t *testing.T) {
	const threshold = time.Millisecond
	var p pace
	if p.slow(threshold) {
		t.Error("slow before the first call")
	}
	p.record(10*time.Millisecond, 2)
	if p.mean != 5*time.Millisecond || !p.slow(threshold) {
		t.Errorf("first call: %+v", p)
	}
	p.record(13*time.Millisecond, 1)
	if p.mean != 6*time.Millisecond {
		t.Errorf("second call: %+v", p)
	}
	for i := range 100 { // a busy host: three of four calls wait for a processor
		d := 4 * time.Millisecond
		if i%4 == 0 {
			d = 10 * time.Microsecond
		}
		p.record(d, 1)
		if p.slow(threshold) {
			t.Fatalf("slow after %d calls, of which some are fast: %+v", i, p)
		}
	}
	if p.mean < threshold {
		t.Errorf("the mean is %v: nothing was shown", p.mean)
	}
	for range 2*paceWindow - 1 {
		p.record(2*time.Millisecond, 1)
	}
	if !p.slow(threshold) {
		t.Errorf("not slow although the last two windows are: %+v", p)
	}
}
