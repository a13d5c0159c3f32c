package coalesce

import "time"

// pace is what is known of how long the token takes for one crossing.
type pace struct {
	// mean is an exponential moving average, weight 1/8 for the latest; zero
	// before the first call.
	mean time.Duration
	// shortest is the shortest time in the current window of calls, before that of
	// the window before.
	shortest, before time.Duration
	seen             int // calls in the current window
}

// paceWindow is the number of calls of one window.
const paceWindow = 16

// record takes in a successful call of the given number of crossings.
func (p *pace) record(elapsed time.Duration, crossings int) {
	d := max(1, elapsed/time.Duration(crossings))
	if p.mean == 0 {
		p.mean, p.before = d, d
	} else {
		p.mean += (d - p.mean) / 8
	}
	if p.seen == paceWindow {
		p.before, p.seen = p.shortest, 0
	}
	if p.seen == 0 || d < p.shortest {
		p.shortest = d
	}
	p.seen++
}

// slow tells a token that takes at least threshold for every call. The mean alone
// would not do: on a busy host it includes waiting for a processor after the call,
// and more calls in flight make that worse.
func (p *pace) slow(threshold time.Duration) bool {
	return p.mean >= threshold && min(p.shortest, p.before) >= threshold
}
