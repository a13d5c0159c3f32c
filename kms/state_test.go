package kms

import (
	"slices"
	"testing"
)

var allStates = []State{StateCreating, StateEnabled, StateDisabled, StateRevoked}

// No path leads from REVOKED to a use, and every state that refuses says why.
func TestTableOfStates(t *testing.T) {
	t.Parallel()
	if len(states) != len(allStates) {
		t.Fatalf("the table has %d states", len(states))
	}
	reach := map[State]bool{StateRevoked: true}
	for grown := true; grown; {
		grown = false
		for s := range reach {
			for _, next := range states[s].leavesTo {
				grown = grown || !reach[next]
				reach[next] = true
			}
		}
	}
	for s := range reach {
		if s.usable() {
			t.Errorf("from REVOKED one gets to %s, which can be used", s)
		}
	}
	for _, s := range allStates {
		rule := states[s]
		if (rule.refusal == nil) != (rule.seal && rule.open) {
			t.Errorf("%s: refusal %v", s, rule.refusal)
		}
		for _, next := range allStates {
			if s.canBecome(next) != slices.Contains(rule.leavesTo, next) {
				t.Errorf("%s to %s", s, next)
			}
		}
		if s.canBecome(StateCreating) {
			t.Errorf("%s can become CREATING", s)
		}
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
	first := empty.apply(&Change{
		Namespaces: []*Namespace{{Name: namespace}},
		Keys:       []*Key{{Name: name, Profile: ProfileDerived, Primary: 1}},
		Versions:   []*Version{{Name: name.Version(1), UID: [16]byte{1}, State: StateEnabled}},
	}, 1)
	second := first.apply(&Change{
		Keys:     []*Key{{Name: name, Profile: ProfileDerived, Primary: 2}},
		Versions: []*Version{{Name: name.Version(2), UID: [16]byte{2}, State: StateEnabled}},
	}, 2)
	third := second.apply(&Change{Versions: []*Version{{Name: name.Version(1), UID: [16]byte{1}, State: StateRevoked}}}, 3)
	fourth := second.apply(&Change{RemoveVersions: []*Version{{Name: name.Version(2), UID: [16]byte{2}}}}, 3)

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
