package kms

// State is the state of a key version.
type State uint8

// The states. The zero value is none of them.
const (
	// StateCreating: the row announces a token object that is not confirmed yet.
	StateCreating State = 1
	// StateEnabled: the version can be used.
	StateEnabled State = 2
	// StateDisabled: the version cannot be used until it is enabled again.
	StateDisabled State = 3
	// StateRevoked: the version can never be used again.
	StateRevoked State = 4
)

// use is what a request wants of a key version.
type use uint8

const (
	useSeal use = 1 // make new ciphertext
	useOpen use = 2 // get plaintext out
)

// stateRule is one row of the table of states: what a version in the state may be
// used for, which error says so if not, and which states it may pass into.
type stateRule struct {
	name     string
	seal     bool
	open     bool
	refusal  error
	leavesTo []State
}

// states is the table that decides. No path leads from REVOKED to any use.
var states = map[State]stateRule{
	StateCreating: {name: "CREATING", refusal: ErrVersionCreating, leavesTo: []State{StateEnabled}},
	StateEnabled:  {name: "ENABLED", seal: true, open: true, leavesTo: []State{StateDisabled, StateRevoked}},
	StateDisabled: {name: "DISABLED", refusal: ErrVersionDisabled, leavesTo: []State{StateEnabled, StateRevoked}},
	StateRevoked:  {name: "REVOKED", refusal: ErrVersionRevoked},
}

// String returns the state's name, as ENABLED.
func (s State) String() string {
	if rule, ok := states[s]; ok {
		return rule.name
	}
	return "KEY_VERSION_STATE_UNSPECIFIED"
}

// usable reports whether a version in the state can be used for anything, and so
// whether the usage attributes of its token object should be on.
func (s State) usable() bool { return states[s].seal || states[s].open }

// allows reports whether a version in the state may be used for u.
func (s State) allows(u use) bool {
	rule := states[s]
	return u == useSeal && rule.seal || u == useOpen && rule.open
}

// canBecome reports whether the table has a transition from s to next.
func (s State) canBecome(next State) bool {
	for _, to := range states[s].leavesTo {
		if to == next {
			return true
		}
	}
	return false
}
