package loadgen

import (
	"context"
	"testing"
	"time"
)

func TestAlarm(t *testing.T) {
	a, err := newAlarm()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{-time.Second, 0, 100 * time.Microsecond, 3 * time.Millisecond} {
		until := time.Now().Add(d)
		a.until(t.Context(), until)
		if early := time.Until(until); early > 0 {
			t.Errorf("an alarm in %v went off %v early", d, early)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	a.until(ctx, time.Now().Add(time.Hour)) // returns, or the test does not end
	if err := a.close(); err != nil {
		t.Error(err)
	}
}
