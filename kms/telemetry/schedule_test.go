package telemetry

import (
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// TestSchedule: what the service does by itself is counted, and when it will next is told.
func TestSchedule(t *testing.T) {
	m := NewMetrics("v1.2.3")
	m.Schedule(func() kms.Schedule {
		return kms.Schedule{
			Rotations: 3, RotationsFailed: 1, Destructions: 2,
			NextRotation: time.Unix(1_900_000_000, 500_000_000),
		}
	})
	for series, want := range map[string]float64{
		`keyholt_scheduled_rotations_total{outcome="done"}`:      3,
		`keyholt_scheduled_rotations_total{outcome="failed"}`:    1,
		`keyholt_scheduled_rotation_next_seconds`:                1_900_000_000.5,
		`keyholt_scheduled_destructions_total{outcome="done"}`:   2,
		`keyholt_scheduled_destructions_total{outcome="failed"}`: 0,
		`keyholt_scheduled_destruction_next_seconds`:             0,
	} {
		if got := m.value(t, series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
}
