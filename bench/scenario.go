package bench

import (
	"fmt"
	"strings"
	"time"
)

// Operation is what a request asks for.
type Operation string

// The operations.
const (
	Unwrap   Operation = "unwrap"
	Generate Operation = "generate"
	Rewrap   Operation = "rewrap"
	Encrypt  Operation = "encrypt" // payloads of 64 bytes
	Decrypt  Operation = "decrypt"
	Sign     Operation = "sign" // SHA-256 digests
)

// Profile is the protection profile of the keys.
type Profile string

// The profiles.
const (
	Derived Profile = "derived"
	Strict  Profile = "strict"
)

// Algorithm is that of keys that sign.
type Algorithm string

// The algorithms.
const (
	P256    Algorithm = "p256"    // EC_SIGN_P256_SHA256
	RSA2048 Algorithm = "rsa2048" // RSA_SIGN_PKCS1_2048_SHA256
)

// Via is what makes the calls.
type Via string

// What makes the calls.
const (
	// Stub is the Go client's generated stub: a request for each call.
	Stub Via = ""
	// Merged is the Go client's own calls for one item, which it merges into batches.
	Merged Via = "coalesced-by-client"
	// Lean is package leanrpc: a request for each call, as the stub makes them, at half of
	// its CPU. It shows how much of a figure is the stub's; nothing is claimed of it.
	Lean Via = "lean-client"
)

// Server says which process answers. Scenarios with an equal Server share one.
type Server struct {
	// Echo is the baseline that answers the same messages at once, with bytes of the
	// right lengths; see package echo. The other fields have no meaning for it.
	Echo bool
	// Token is no server: `kmsd hsm bench` calls the token without one, with as many
	// callers as kmsd has sessions with it.
	Token bool
	// OneCallEach is kmsd with coalescing switched off: each request makes its own
	// token calls.
	OneCallEach bool
	// HSMLatency delays each token operation; 0 uses the module as it is.
	HSMLatency time.Duration
	// Sessions with the token; 0: kmsd's default.
	Sessions int
	// Versions is how many key versions are in the token; 0: as many as the scenarios need.
	Versions int
}

// Scenario is one thing to measure. Zero values are the defaults of their lines.
type Scenario struct {
	Server    Server
	Operation Operation
	Profile   Profile   // default DERIVED
	Algorithm Algorithm // of Sign
	Batch     int       // items of a request; 1 is unary
	Keys      int       // that the items belong to, in turn; default 1
	Context   int       // pairs of encryption context, per request
	Callers   int       // requests under way: of a closed run exactly, of an open one at most
	Via       Via
	// Load makes the run open: requests start at random with this share of the rate
	// that the same scenario reached as a closed run on Capacity.
	Load float64
}

// Name tells the scenario from every other.
func (s Scenario) Name() string {
	parts := []string{string(s.Operation), s.target(), fmt.Sprintf("batch=%d", s.Batch)}
	add := func(say bool, format string, args ...any) {
		if say {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(s.keys() > 1, "keys=%d", s.Keys)
	add(s.Context > 0, "context=%d", s.Context)
	add(s.Server.Versions > 0, "versions=%d", s.Server.Versions)
	add(s.Server.HSMLatency > 0, "hsm=%v", s.Server.HSMLatency)
	add(s.Server.Sessions > 0, "sessions=%d", s.Server.Sessions)
	add(s.Server.OneCallEach, "one-call-each")
	add(s.Via != Stub, "%s", s.Via)
	add(s.Load == 0 && s.Callers > 0, "callers=%d", s.Callers)
	add(s.Load > 0, "load=%d%%", int(s.Load*100+0.5))
	return strings.Join(parts, "/")
}

// target is who answers, in a word: echo, the token and the algorithm, or the profile or
// algorithm of kmsd's keys.
func (s Scenario) target() string {
	switch {
	case s.Server.Echo:
		return "echo"
	case s.Server.Token:
		return "token/" + string(s.Algorithm)
	case s.Operation == Sign:
		return string(s.Algorithm)
	default:
		return string(s.profile())
	}
}

func (s Scenario) profile() Profile {
	if s.Profile == "" {
		return Derived
	}
	return s.Profile
}

func (s Scenario) keys() int { return max(s.Keys, 1) }

// capacity is the closed run whose throughput a load is a share of: that of kmsd, for
// its baselines too, so that they carry the same load.
func (s Scenario) capacity() Scenario {
	s.Load, s.Server.Echo, s.Callers = 0, false, unaryCallers
	return s
}

// processors is how many of all processors the load generator uses. Single items keep waking
// it, each with little to do: with all of them it would take from the server what it spends
// on waking the next and looking for work.
func (s Scenario) processors(all int) int {
	if s.Batch == 1 {
		return max(1, all/2)
	}
	return all
}

// Group is scenarios that take turns: in each round every one is run once, in the order
// of the list and in the next round in the opposite order.
type Group struct {
	Name      string
	Scenarios []Scenario
	Rounds    int           // 0: those of the options
	Window    time.Duration // of one run; 0: that of the options
	// Parts cuts each round in so many, each with a part of the time; 0: it is not cut. What
	// the machine does for a while then hits fewer of the pairs that a ratio is the median of.
	Parts int
	// Longer makes each run so many times as long as others, with its warm-up, for what takes
	// a while to settle; 0: as long.
	Longer int

	warmUp time.Duration // of one run
}
