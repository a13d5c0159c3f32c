package kms

import "slices"

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
	// StateRewrapOnly: the version is under suspicion. What it protects can be rewrapped
	// under another version, inside the service; no plaintext comes out.
	StateRewrapOnly State = 5
	// StateDestroyScheduled: the token object is to be destroyed at the version's
	// DestroyTime; until then the version can be restored.
	StateDestroyScheduled State = 6
	// StateDestroyed: the token object is gone; the row stays.
	StateDestroyed State = 7
)

// use is what a request wants of a key version.
type use uint8

const (
	useSeal   use = 1 << iota // make new ciphertext, signatures or MACs
	useOpen                   // get plaintext out; verify a MAC
	useRewrap                 // make other ciphertext of the plaintext, which stays inside
	usePublic                 // the public key, which is in the row: show it, verify with it
)

// objectUses are the uses for which the token is needed, and its object must be on.
const objectUses = useSeal | useOpen | useRewrap

// stateRule is one row of the table of states: what a version in the state may be
// used for, which error says so if not, and which actions lead where.
type stateRule struct {
	name     string
	uses     use
	refusal  error // of the uses that are not allowed; nil: all are
	leavesBy map[Action][]State
}

// states is the table that decides. No path leads from REVOKED to any use: it leaves to
// DESTROY_SCHEDULED only, and a version that came from REVOKED is restored to REVOKED.
var states = map[State]stateRule{
	StateCreating: {
		name: "CREATING", refusal: ErrVersionCreating,
		leavesBy: map[Action][]State{ActionCreateKey: {StateEnabled}, ActionRotateKey: {StateEnabled}, ActionImportVersion: {StateEnabled}},
	},
	StateEnabled: {
		name: "ENABLED", uses: useSeal | useOpen | useRewrap | usePublic,
		leavesBy: map[Action][]State{
			ActionRestrictVersion: {StateRewrapOnly},
			ActionDisableVersion:  {StateDisabled},
			ActionRevokeVersion:   {StateRevoked},
			ActionScheduleVersion: {StateDestroyScheduled},
		},
	},
	StateRewrapOnly: {
		name: "REWRAP_ONLY", uses: useRewrap | usePublic, refusal: ErrVersionRewrapOnly,
		leavesBy: map[Action][]State{
			ActionEnableVersion:  {StateEnabled},
			ActionDisableVersion: {StateDisabled},
			ActionRevokeVersion:  {StateRevoked},
		},
	},
	StateDisabled: {
		name: "DISABLED", uses: usePublic, refusal: ErrVersionDisabled,
		leavesBy: map[Action][]State{
			ActionEnableVersion:   {StateEnabled},
			ActionRestrictVersion: {StateRewrapOnly},
			ActionRevokeVersion:   {StateRevoked},
			ActionScheduleVersion: {StateDestroyScheduled},
		},
	},
	StateRevoked: {
		name: "REVOKED", uses: usePublic, refusal: ErrVersionRevoked,
		leavesBy: map[Action][]State{ActionScheduleVersion: {StateDestroyScheduled}},
	},
	StateDestroyScheduled: {
		name: "DESTROY_SCHEDULED", uses: usePublic, refusal: ErrVersionDestroyScheduled,
		leavesBy: map[Action][]State{
			ActionRestoreVersion: {StateDisabled, StateRevoked}, // which, the row says
			ActionDestroyVersion: {StateDestroyed},
		},
	},
	StateDestroyed: {name: "DESTROYED", refusal: ErrVersionDestroyed},
}

// String returns the state's name, as ENABLED.
func (s State) String() string {
	if rule, ok := states[s]; ok {
		return rule.name
	}
	return "KEY_VERSION_STATE_UNSPECIFIED"
}

// usable reports whether a version in the state, of a key with the purpose, can be used
// for anything that needs its token object, and so whether the usage attributes of that
// should be on. Nothing can be rewrapped under a key that is not ENCRYPT_DECRYPT.
func (s State) usable(p Purpose) bool {
	needed := objectUses
	if p != PurposeEncryptDecrypt {
		needed &^= useRewrap
	}
	return states[s].uses&needed != 0
}

// allows reports whether a version in the state may be used for u.
func (s State) allows(u use) bool { return states[s].uses&u == u }

// leadsTo reports whether the action takes a version from s to next.
func (s State) leadsTo(a Action, next State) bool {
	return slices.Contains(states[s].leavesBy[a], next)
}

// restoredTo is the state in which a version is restored that was scheduled for
// destruction in state s.
func (s State) restoredTo() State {
	if s == StateRevoked {
		return StateRevoked
	}
	return StateDisabled
}
