package bench

import (
	"slices"
	"time"
)

// How many requests are under way in closed runs: batches enough to keep both processes
// busy; single items as many as a service with some traffic has.
const (
	batchCallers = 4
	unaryCallers = 64
	manyCallers  = 512
	signCallers  = 32
	signBatch    = 64
	manyKeys     = 1000
	mainBatch    = 1024
	slowHSM      = 5 * time.Millisecond
	slowSessions = 4
)

var (
	echoServer    = Server{Echo: true}
	tokenAlone    = Server{Token: true}
	slowServer    = Server{HSMLatency: slowHSM, Sessions: slowSessions}
	oneCallServer = Server{HSMLatency: slowHSM, Sessions: slowSessions, OneCallEach: true}
	batchSizes    = []int{1, 16, 256, 1024, 4096}
	loads         = []float64{0.1, 0.3, 0.5, 0.7, 0.9}
	hsmLatencies  = []time.Duration{0, 500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, slowHSM, 10 * time.Millisecond}
)

// The scenarios that claims are about.
var (
	derivedBatch   = Scenario{Operation: Unwrap, Batch: mainBatch, Callers: batchCallers}
	strictBatch    = with(derivedBatch, func(s *Scenario) { s.Profile = Strict })
	echoBatch      = on(echoServer, derivedBatch)
	contextBatch   = with(derivedBatch, func(s *Scenario) { s.Context = 2 })
	contextEcho    = on(echoServer, contextBatch)
	unary          = Scenario{Operation: Unwrap, Batch: 1, Callers: unaryCallers}
	unaryEcho      = on(echoServer, unary)
	unaryManyKeys  = with(unary, func(s *Scenario) { s.Keys = manyKeys })
	unaryCrowd     = with(unary, func(s *Scenario) { s.Callers = manyCallers })
	clientUnary    = via(Merged, unary)
	unarySlow      = on(slowServer, unary)
	unaryOneCall   = on(oneCallServer, unary)
	fewVersions    = on(Server{Versions: 10}, with(unary, func(s *Scenario) { s.Callers = 1 }))
	manyVersions   = on(Server{Versions: 10_000}, with(unary, func(s *Scenario) { s.Callers = 1 }))
	signP256       = Scenario{Operation: Sign, Algorithm: P256, Batch: 1, Callers: signCallers}
	signP256Batch  = with(signP256, func(s *Scenario) { s.Batch, s.Callers = signBatch, batchCallers })
	signP256Client = via(Merged, signP256)
	signP256Lean   = via(Lean, signP256)
	signRSALean    = via(Lean, signRSA)
	signRSAClient  = with(signP256Client, func(s *Scenario) { s.Algorithm = RSA2048 })
	signRSA        = with(signP256, func(s *Scenario) { s.Algorithm = RSA2048 })
	signRSABatch   = with(signP256Batch, func(s *Scenario) { s.Algorithm = RSA2048 })
	tokenP256      = Scenario{Operation: Sign, Algorithm: P256, Batch: 1, Server: tokenAlone}
	tokenRSA       = with(tokenP256, func(s *Scenario) { s.Algorithm = RSA2048 })
	memory         = with(derivedBatch, func(s *Scenario) { s.Batch, s.Callers = 4096, 64 })
)

func with(s Scenario, change func(*Scenario)) Scenario {
	change(&s)
	return s
}

func via(v Via, s Scenario) Scenario {
	s.Via = v
	return s
}

func on(server Server, s Scenario) Scenario {
	s.Server = server
	return s
}

// Quick is what the claims need, and no more. What is compared stands side by side: the
// machine then changes less between the two.
func Quick() []Group {
	return []Group{
		{Name: "batches", Scenarios: []Scenario{derivedBatch, echoBatch, strictBatch, contextBatch, contextEcho}},
		{Name: "unary", Scenarios: []Scenario{clientUnary, unaryEcho, unary, unaryManyKeys, unaryCrowd}, Parts: 2},
		{Name: "slow HSM", Scenarios: []Scenario{unarySlow, unaryOneCall}},
		{Name: "signatures", Scenarios: []Scenario{signP256Client, signP256Lean, signP256Batch, signP256, tokenP256, tokenRSA, signRSA, signRSALean, signRSAClient}, Longer: 3},
	}
}

// Full is Quick, and what the plots and the reader want to know.
func Full() []Group {
	return append(Quick(),
		Group{Name: "batch sizes", Scenarios: byBatchSize(), Rounds: 3},
		Group{Name: "operations", Scenarios: byOperation(), Rounds: 3, Window: 500 * time.Millisecond},
		Group{Name: "lean client", Scenarios: []Scenario{via(Lean, unary), via(Lean, unaryEcho), via(Lean, unaryManyKeys)}, Rounds: 3},
		Group{Name: "latency by load", Scenarios: byLoad(), Rounds: 3, Window: time.Second},
		Group{Name: "effect of HSM latency", Scenarios: byHSMLatency(), Rounds: 3},
		Group{Name: "versions in the token", Scenarios: []Scenario{fewVersions, manyVersions}},
		Group{Name: "memory", Scenarios: []Scenario{memory}, Rounds: 1, Window: 8 * time.Second},
	)
}

// byBatchSize leaves out what Quick has.
func byBatchSize() (list []Scenario) {
	for _, size := range batchSizes {
		for _, s := range []Scenario{derivedBatch, echoBatch, strictBatch} {
			s.Batch = size
			if size == 1 {
				s.Callers = unaryCallers
			}
			list = append(list, s)
		}
	}
	list = append(list, with(derivedBatch, func(s *Scenario) { s.Keys = manyKeys }))
	return without(list, Quick())
}

func byOperation() (list []Scenario) {
	list = append(list, signRSABatch)
	for _, op := range []Operation{Generate, Rewrap, Encrypt, Decrypt} {
		for _, profile := range []Profile{Derived, Strict} {
			list = append(list,
				Scenario{Operation: op, Profile: profile, Batch: 1, Callers: unaryCallers},
				Scenario{Operation: op, Profile: profile, Batch: mainBatch, Callers: batchCallers})
		}
	}
	return list
}

func byLoad() (list []Scenario) {
	for _, load := range loads {
		for _, s := range []Scenario{unary, unaryEcho} {
			s.Load, s.Callers = load, 256
			list = append(list, s)
		}
	}
	return list
}

func byHSMLatency() (list []Scenario) {
	for _, latency := range hsmLatencies {
		for _, s := range []Scenario{unary, derivedBatch, unaryOneCall} {
			s.Server.HSMLatency, s.Server.Sessions = latency, slowSessions
			list = append(list, s)
		}
	}
	return without(list, Quick())
}

// without is the list less what the groups have.
func without(list []Scenario, groups []Group) []Scenario {
	return slices.DeleteFunc(list, func(s Scenario) bool {
		return slices.ContainsFunc(groups, func(g Group) bool { return slices.Contains(g.Scenarios, s) })
	})
}
