//go:build !linux

package loadgen

import (
	"context"
	"time"
)

// alarm waits on a Go timer.
type alarm struct{}

func newAlarm() (*alarm, error) { return new(alarm), nil }

func (*alarm) until(ctx context.Context, t time.Time) { timerUntil(ctx, t) }

func (*alarm) close() error { return nil }
