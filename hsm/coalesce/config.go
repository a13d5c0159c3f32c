package coalesce

import (
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// The values of a [Config] that sets none.
const (
	DefaultMaxBytes         = 32 << 10 // 1,024 derivations of 32 bytes
	DefaultMaxCalls         = 4
	DefaultMaxQueueBytes    = 32 << 20
	DefaultMaxQueueRequests = 16 << 10
	DefaultDispatchers      = 4
	DefaultSlowCall         = time.Millisecond
)

// Config bounds a [Coalescer]. Zero and negative numbers mean the default.
type Config struct {
	// MaxBytes is the most bytes of one merged call, rounded down to whole blocks.
	// [NewToken] takes it from Info().MaxBlockBytes if it is not set.
	MaxBytes int
	// MaxCalls is the most calls in flight, over all keys: what the token has
	// sessions for. [NewToken] takes it from Info().Sessions if it is not set.
	MaxCalls int
	// MaxQueueBytes and MaxQueueRequests bound what waits, over all keys. One key
	// may take half of each. What exceeds them is refused with hsm.ErrBusy, but not
	// a request that is the only one to wait.
	MaxQueueBytes    int
	MaxQueueRequests int
	// Dispatchers is the most calls in flight for one key on a slow token; at
	// most MaxCalls.
	Dispatchers int
	// SlowCall is the time of a call from which the token counts as slow.
	SlowCall time.Duration
	// Observe, if set, is told of every request and every token call. It is
	// called concurrently, holding no lock, on the paths that it measures: it must
	// be quick and must not panic.
	Observe func(Event)
}

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	setDefault(&c.MaxBytes, DefaultMaxBytes)
	setDefault(&c.MaxCalls, DefaultMaxCalls)
	setDefault(&c.MaxQueueBytes, DefaultMaxQueueBytes)
	setDefault(&c.MaxQueueRequests, DefaultMaxQueueRequests)
	setDefault(&c.Dispatchers, DefaultDispatchers)
	setDefault(&c.SlowCall, DefaultSlowCall)
	c.MaxBytes = max(hsm.BlockSize, c.MaxBytes/hsm.BlockSize*hsm.BlockSize)
	c.Dispatchers = min(c.Dispatchers, c.MaxCalls)
	return c
}

func setDefault[T int | time.Duration](value *T, fallback T) {
	if *value <= 0 {
		*value = fallback
	}
}
