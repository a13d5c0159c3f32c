package main

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

const (
	// slowToken is how long a call takes at least to a token that is not in this machine.
	slowToken = time.Millisecond
	// tokenLooks is how many calls are timed; the shortest counts.
	tokenLooks = 3
)

// tuneProcessors gives Go more processors than there are cores if the token is slow, unless
// GOMAXPROCS says something. A call into the module keeps its processor until Go's monitor
// notices, which takes it up to 10 ms; while all of them wait for the HSM, requests that
// came meanwhile do, too. A call to a fast token is over before that.
//
// Measured on two cores with an HSM that takes 5 ms, 4 sessions and 64 callers: 7,900 unwraps a
// second with 2 processors, 8,100 with 3, 8,900 with 4, 8,800 with 6.
//
// A token whose time cannot be taken is not judged here: nothing is changed.
func tuneProcessors(ctx context.Context, token hsm.Random, sessions int, log *slog.Logger) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	shortest := slowToken
	for range tokenLooks {
		begin := time.Now()
		if err := token.Random(ctx, make([]byte, hsm.BlockSize)); err != nil {
			log.WarnContext(ctx, "how fast the token is cannot be found out", slog.Any("error", err))
			return
		}
		shortest = min(shortest, time.Since(begin))
	}
	if shortest < slowToken {
		return
	}
	cores := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(cores + min(cores, sessions))
	log.InfoContext(ctx, "the token is slow: Go has more processors than there are cores",
		slog.Int("processors", cores+min(cores, sessions)), slog.Int("cores", cores))
}

// lanes is how many threads make a fast token's short calls for a server: as many as half of
// the cores, for the requests need the others.
func lanes() int { return max(1, runtime.GOMAXPROCS(0)/2) }
