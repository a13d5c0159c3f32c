package hsmtest

import (
	"context"
	"slices"
	"sync"

	"github.com/keyholt/keyholt/hsm"
)

// Method names a method of hsm.Token.
type Method string

// The methods that a [Faults] can fail, hold and count. Info and Close pass through.
const (
	MethodEncryptBlocks    Method = "EncryptBlocks"
	MethodSeal             Method = "Seal"
	MethodOpen             Method = "Open"
	MethodSign             Method = "Sign"
	MethodSignBatch        Method = "SignBatch"
	MethodMAC              Method = "MAC"
	MethodMACBatch         Method = "MACBatch"
	MethodDecryptOAEP      Method = "DecryptOAEP"
	MethodPublicKey        Method = "PublicKey"
	MethodUnwrapKey        Method = "UnwrapKey"
	MethodGenerateKey      Method = "GenerateKey"
	MethodImportSessionKey Method = "ImportSessionKey"
	MethodKeys             Method = "Keys"
	MethodKey              Method = "Key"
	MethodSetUsable        Method = "SetUsable"
	MethodSetLabel         Method = "SetLabel"
	MethodDestroyKey       Method = "DestroyKey"
	MethodRandom           Method = "Random"
	MethodCheck            Method = "Check"
)

// Call is one call of a method.
type Call struct {
	Method Method
	Number int     // 1 for the first call of this method on the Faults
	Key    hsm.UID // zero for methods that take none
	Size   int     // bytes for EncryptBlocks, Sign, MAC, DecryptOAEP and Random, items for batches, else 0
}

// Faults is a token whose calls fail, wait and are counted as a test says. Without
// rules it passes everything on. Which call a rule applies to depends on the order
// of calls only, never on time.
type Faults struct {
	inner hsm.Token

	mu    sync.Mutex
	log   []Call
	count map[Method]int
	rules map[Method][]*rule
	hooks map[Method]func(context.Context, Call) error
	gates map[Method]*Gate
}

var _ hsm.Token = (*Faults)(nil)

// rule fails some calls of one method.
type rule struct {
	after bool
	err   error
	calls []int // counted from the rule's making, from 1; empty: every call
	seen  int
}

// NewFaults wraps a token. Closing it closes the token.
func NewFaults(inner hsm.Token) *Faults {
	return &Faults{
		inner: inner,
		count: make(map[Method]int),
		rules: make(map[Method][]*rule),
		hooks: make(map[Method]func(context.Context, Call) error),
		gates: make(map[Method]*Gate),
	}
}

// FailBefore makes calls of m fail with err without reaching the token. calls are
// the numbers of the calls that fail, counted from now, the next being 1; without
// numbers every call fails.
func (f *Faults) FailBefore(m Method, err error, calls ...int) { f.addRule(m, false, err, calls) }

// FailAfter makes calls of m take effect in the token and then fail with err:
// what they returned is wiped. Numbers are as for FailBefore.
func (f *Faults) FailAfter(m Method, err error, calls ...int) { f.addRule(m, true, err, calls) }

func (f *Faults) addRule(m Method, after bool, err error, calls []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules[m] = append(f.rules[m], &rule{after: after, err: err, calls: slices.Clone(calls)})
}

// Hook makes every call of m run hook first, in the caller's goroutine. If hook
// returns an error, the call fails with it without reaching the token. A later
// Hook for the same method replaces it; nil removes it.
func (f *Faults) Hook(m Method, hook func(ctx context.Context, call Call) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hooks[m] = hook
}

// Hold makes calls of m wait, as in a module that hangs, until the gate is
// released. Waiting ignores the context, as a call inside a module does.
func (f *Faults) Hold(m Method) *Gate {
	g := &Gate{released: make(chan struct{}), arrivals: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gates[m] = g
	return g
}

// Clear removes all rules and hooks and releases all gates. Counts stay.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.gates {
		g.Release()
	}
	clear(f.gates)
	clear(f.rules)
	clear(f.hooks)
}

// Count returns how many calls of m have begun.
func (f *Faults) Count(m Method) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[m]
}

// Log returns the calls that have begun, in order.
func (f *Faults) Log() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

// begin records a call, applies hook and gate, and returns what to fail with
// before and after the token's own work.
func (f *Faults) begin(ctx context.Context, m Method, key hsm.UID, size int) (before, after error) {
	f.mu.Lock()
	f.count[m]++
	call := Call{Method: m, Number: f.count[m], Key: key, Size: size}
	f.log = append(f.log, call)
	for _, r := range f.rules[m] {
		r.seen++
		if len(r.calls) != 0 && !slices.Contains(r.calls, r.seen) {
			continue
		}
		if r.after && after == nil {
			after = r.err
		}
		if !r.after && before == nil {
			before = r.err
		}
	}
	hook, gate := f.hooks[m], f.gates[m]
	f.mu.Unlock()

	if hook != nil {
		if err := hook(ctx, call); err != nil {
			return err, nil
		}
	}
	if gate != nil {
		gate.pass()
	}
	return before, after
}

// Gate holds calls until it is released.
type Gate struct {
	once     sync.Once
	released chan struct{}

	mu       sync.Mutex
	waiting  int
	arrivals chan struct{} // closed and replaced at each arrival
}

// pass waits for the release.
func (g *Gate) pass() {
	g.mu.Lock()
	g.waiting++
	close(g.arrivals)
	g.arrivals = make(chan struct{})
	g.mu.Unlock()
	<-g.released
}

// Await waits until n calls in all have arrived at the gate, or ctx is done.
func (g *Gate) Await(ctx context.Context, n int) error {
	for {
		g.mu.Lock()
		waiting, next := g.waiting, g.arrivals
		g.mu.Unlock()
		if waiting >= n {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Release lets every call through, those that wait and those that come.
func (g *Gate) Release() { g.once.Do(func() { close(g.released) }) }
