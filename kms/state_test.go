package kms

import (
	"slices"
	"testing"
)

var allStates = []State{
	StateCreating, StateEnabled, StateDisabled, StateRevoked, StateRewrapOnly, StateDestroyScheduled, StateDestroyed,
}

// From REVOKED no sequence of actions leads to a use: what a version is restored to
// depends on where it was scheduled from, so the walk carries that along.
func TestNoPathFromRevokedToAUse(t *testing.T) {
	t.Parallel()
	type place struct {
		state, restoreTo State
	}
	reach := map[place]bool{{state: StateRevoked}: true}
	for grown := true; grown; {
		grown = false
		for at := range reach {
			for action, leads := range states[at.state].leavesBy {
				for _, next := range leads {
					if action == ActionRestoreVersion && next != at.restoreTo {
						continue
					}
					to := place{state: next}
					if next == StateDestroyScheduled {
						to.restoreTo = at.state.restoredTo()
					}
					grown = grown || !reach[to]
					reach[to] = true
				}
			}
		}
	}
	for at := range reach {
		for _, p := range Purposes() {
			if at.state.usable(p) {
				t.Errorf("from REVOKED one gets to %s, which can be used", at.state)
			}
		}
	}
	if len(reach) != 3 {
		t.Errorf("from REVOKED one gets to %d states: %v", len(reach), reach)
	}
}

// The table holds what the documentation says, and every state that refuses says why.
func TestTableOfStates(t *testing.T) {
	t.Parallel()
	if len(states) != len(allStates) {
		t.Fatalf("the table has %d states", len(states))
	}
	uses := map[State]use{
		StateEnabled: useSeal | useOpen | useRewrap | usePublic, StateRewrapOnly: useRewrap | usePublic,
		StateDisabled: usePublic, StateRevoked: usePublic, StateDestroyScheduled: usePublic,
	}
	for _, s := range allStates {
		rule := states[s]
		if rule.uses != uses[s] {
			t.Errorf("%s: uses %b", s, rule.uses)
		}
		if (rule.refusal == nil) != (rule.uses == useSeal|useOpen|useRewrap|usePublic) {
			t.Errorf("%s: refusal %v", s, rule.refusal)
		}
		if rule.name == "" || s.String() != rule.name {
			t.Errorf("state %d has the name %q", s, rule.name)
		}
		for action, leads := range rule.leavesBy {
			if _, known := actions[action]; !known || slices.Contains(leads, StateCreating) {
				t.Errorf("%s by %s leads to %v", s, action, leads)
			}
			for _, next := range leads {
				if !s.leadsTo(action, next) {
					t.Errorf("%s does not lead from %s to %s", action, s, next)
				}
			}
		}
		if s.leadsTo(ActionEncrypt, StateEnabled) {
			t.Errorf("a use leads from %s to another state", s)
		}
	}
	if len(states[StateDestroyed].leavesBy) != 0 {
		t.Error("something leads out of DESTROYED")
	}
}

// A snapshot never changes: those taken before a change show what was.
func TestSnapshotsDoNotChange(t *testing.T) {
	t.Parallel()
	namespace, err := NewNamespaceName("default")
	if err != nil {
		t.Fatal(err)
	}
	name, err := NewKeyName(namespace, "orders")
	if err != nil {
		t.Fatal(err)
	}
	empty := newSnapshot()
	// change applies a change as if it had been committed at a revision.
	change := func(to *Snapshot, revision Revision, c *Change) *Snapshot {
		return to.apply(c.delta(Head{Revision: revision}))
	}
	first := change(empty, 1, &Change{
		Namespaces: []*Namespace{{Name: namespace}},
		Keys:       []*Key{{Name: name, Profile: ProfileDerived, Primary: 1}},
		Versions:   []*Version{{Name: name.Version(1), UID: [16]byte{1}, State: StateEnabled}},
	})
	second := change(first, 2, &Change{
		Keys:     []*Key{{Name: name, Profile: ProfileDerived, Primary: 2}},
		Versions: []*Version{{Name: name.Version(2), UID: [16]byte{2}, State: StateEnabled}},
	})
	third := change(second, 3, &Change{Versions: []*Version{{Name: name.Version(1), UID: [16]byte{1}, State: StateRevoked}}})
	fourth := change(second, 3, &Change{RemoveVersions: []*Version{{Name: name.Version(2), UID: [16]byte{2}}}})

	for _, test := range []struct {
		name      string
		s         *Snapshot
		versions  int
		primary   uint32
		stateOfV1 State
	}{
		{"first", first, 1, 1, StateEnabled}, {"second", second, 2, 2, StateEnabled},
		{"third", third, 2, 2, StateRevoked}, {"fourth", fourth, 1, 2, StateEnabled},
	} {
		key := test.s.key(name)
		if len(key.versions) != test.versions || key.Primary != test.primary || test.s.versions.Len() != test.versions {
			t.Errorf("%s: %d versions, primary %d", test.name, len(key.versions), key.Primary)
		}
		v := test.s.versionByUID([16]byte{1})
		if v.State != test.stateOfV1 || v != key.versions[0] {
			t.Errorf("%s: version 1 is %s", test.name, v.State)
		}
	}
	if empty.key(name) != nil || empty.versions.Len() != 0 || empty.namespace(namespace) != nil {
		t.Error("the empty snapshot is not empty any more")
	}
	if first.versionByUID([16]byte{1}).live != third.versionByUID([16]byte{1}).live {
		t.Error("snapshots do not share what is known of the token object")
	}
}
