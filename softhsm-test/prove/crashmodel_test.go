package prove

import (
	"math/rand/v2"
	"slices"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/kms"
)

// picture is the states of a key's versions, by number; empty: there is no such key. The
// last version is the primary one. A version whose destruction is due stands as DESTROYED.
type picture []kms.State

// crashKey is what is known of a key.
type crashKey struct {
	name     kms.KeyName
	profile  kms.Profile
	picture  picture
	versions []crashVersion
	retired  bool // an object of it was lost: it is looked at, and not changed any more
}

// crashVersion is what is known of a version beside its state.
type crashVersion struct {
	data []dataKey // wrapped under it
	lost bool      // its token object is gone, and that was named
}

// deed is a change of a key that may be cut short.
type deed struct {
	kind    crashKind
	key     *crashKey
	version int     // index
	after   picture // of the key, if it was done
	id      string  // of the request, where it makes a version
}

// name is that of the version that is changed.
func (d *deed) name() kms.VersionName {
	return d.key.name.Version(uint32(d.version + 1))
}

// record is action and resource of the change's record.
func (d *deed) record() string {
	switch d.kind {
	case doCreate:
		return "CreateKey " + d.key.name.String()
	case doRotate, doRestrict:
		return "RotateKey " + d.key.name.String()
	}
	action := map[crashKind]kms.Action{
		doDisable: kms.ActionDisableVersion, doEnable: kms.ActionEnableVersion, doRevoke: kms.ActionRevokeVersion,
		doSchedule: kms.ActionScheduleVersion, doDestroy: kms.ActionScheduleVersion, doRestore: kms.ActionRestoreVersion,
	}[d.kind]
	return string(action) + " " + d.name().String()
}

// crashKind is a kind of change.
type crashKind string

const (
	doCreate   crashKind = "create"
	doRotate   crashKind = "rotate"
	doRestrict crashKind = "rotate and restrict"
	doDisable  crashKind = "disable"
	doEnable   crashKind = "enable"
	doRevoke   crashKind = "revoke"
	doSchedule crashKind = "schedule destruction"
	doRestore  crashKind = "restore"
	doDestroy  crashKind = "destroy"
)

var crashKinds = []crashKind{
	doCreate, doRotate, doRestrict, doDisable, doEnable, doRevoke, doSchedule, doRestore, doDestroy,
}

// leads is the state that a kind of change takes a version to, from the states that it may
// be in. The rules are told here anew and not taken from the program.
func (k crashKind) leads(from kms.State) (to kms.State, ok bool) {
	in := func(states ...kms.State) bool { return slices.Contains(states, from) }
	switch k {
	case doDisable:
		return kms.StateDisabled, in(kms.StateEnabled, kms.StateRewrapOnly)
	case doEnable:
		return kms.StateEnabled, in(kms.StateDisabled, kms.StateRewrapOnly)
	case doRevoke:
		return kms.StateRevoked, in(kms.StateEnabled, kms.StateDisabled, kms.StateRewrapOnly)
	case doSchedule: // in an hour; what is REVOKED the proof does not schedule
		return kms.StateDestroyScheduled, in(kms.StateEnabled, kms.StateDisabled)
	case doDestroy: // schedule it, due at once
		return kms.StateDestroyed, in(kms.StateEnabled, kms.StateDisabled, kms.StateRevoked)
	case doRestore:
		return kms.StateDisabled, in(kms.StateDestroyScheduled)
	default:
		return 0, false
	}
}

// deeds are the changes of a kind that a key can undergo now.
func (k crashKind) deeds(key *crashKey) []*deed {
	if key.retired || len(key.picture) == 0 {
		return nil
	}
	var found []*deed
	switch k {
	case doRotate, doRestrict:
		after := append(slices.Clone(key.picture), kms.StateEnabled)
		for i, state := range key.picture {
			if k == doRestrict && state == kms.StateEnabled {
				after[i] = kms.StateRewrapOnly
			}
		}
		found = append(found, &deed{kind: k, key: key, after: after, id: uuid.NewString()})
	default:
		for i, from := range key.picture {
			to, ok := k.leads(from)
			if !ok {
				continue
			}
			after := slices.Clone(key.picture)
			after[i] = to
			found = append(found, &deed{kind: k, key: key, version: i, after: after})
		}
	}
	return found
}

// choose chooses a change of a kind, of a key that is not among those that are busy; nil:
// there is none.
func (k crashKind) choose(keys []*crashKey, busy []*crashKey, random *rand.Rand) *deed {
	var possible []*deed
	for _, key := range keys {
		if !slices.Contains(busy, key) {
			possible = append(possible, k.deeds(key)...)
		}
	}
	if len(possible) == 0 {
		return nil
	}
	return possible[random.IntN(len(possible))]
}

// needs is a change that makes one of kind k possible.
func (k crashKind) needs() crashKind {
	switch k {
	case doEnable:
		return doDisable
	case doRestore:
		return doSchedule
	default:
		return doRotate
	}
}
