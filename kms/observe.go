package kms

import "context"

// Observer is told of the phases of data operations, for traces. Its methods are called
// on the hot path and must return at once.
type Observer interface {
	// Begin is called when a phase begins. The context that it returns is used for the
	// phase, and the function when the phase has ended.
	Begin(ctx context.Context, phase Phase) (phaseContext context.Context, end func())
}

// Phase is a part of the work of a data operation.
type Phase string

// The phases. Calls of the token are within PhaseCipher; who wants them apart wraps the
// token.
const (
	PhasePolicy Phase = "policy" // find key versions, authorise, check states
	PhaseCipher Phase = "cipher" // token calls
	PhaseHost   Phase = "host"   // the host's part of opening and sealing
	PhaseAudit  Phase = "audit"  // the record
)

// begin tells the observer, if there is one.
func (s *Service) begin(ctx context.Context, phase Phase) (context.Context, func()) {
	if s.observer == nil {
		return ctx, func() {}
	}
	return s.observer.Begin(ctx, phase)
}

// Inventory counts what the service manages.
type Inventory struct {
	Namespaces  int
	Keys        map[Profile]int // of ENCRYPT_DECRYPT keys
	Purposes    map[Purpose]int // keys by purpose
	Versions    map[State]int
	Unavailable int // versions whose token object is missing or wrong
}

// Inventory counts namespaces, keys and versions in the current snapshot, in a time
// proportional to their number.
func (s *Service) Inventory() Inventory {
	now := s.snapshot.Load()
	inventory := Inventory{
		Namespaces: now.namespaces.Len(), Keys: make(map[Profile]int), Purposes: make(map[Purpose]int), Versions: make(map[State]int),
	}
	now.keys.Scan(func(_ string, k *keyEntry) bool {
		inventory.Purposes[k.Purpose]++
		if k.Profile != 0 {
			inventory.Keys[k.Profile]++
		}
		return true
	})
	now.versions.Scan(func(_ string, v *versionEntry) bool {
		inventory.Versions[v.State]++
		if v.live.whyUnavailable() != "" {
			inventory.Unavailable++
		}
		return true
	})
	return inventory
}

// ReplicaStatus is how a service stands among the replicas on its store.
type ReplicaStatus struct {
	Revision Revision // applied
	Serving  bool     // the lease is valid, or none is needed
}

// ReplicaStatus tells how this replica stands now.
func (s *Service) ReplicaStatus() ReplicaStatus {
	return ReplicaStatus{Revision: s.snapshot.Load().Revision(), Serving: s.replica.mayServe() == nil}
}
