package kms

import (
	"fmt"
	"hash/maphash"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// scheduled is a snapshot of keys a to d, rotated every 1 to 4 hours, with one version
// each, made at start. The rotator and the destroyer have looked at it then, and rest for
// a minute.
type scheduled struct {
	start time.Time
	names []KeyName
	now   *Snapshot
	s     *Service
}

func newScheduled(t *testing.T) *scheduled {
	t.Helper()
	c := &scheduled{start: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), s: new(Service)}
	c.s.rotator.seed = maphash.MakeSeed()
	c.s.destruction = DestructionLimits{}.withDefaults()
	namespace, err := NewNamespaceName(DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	contents := &Contents{Head: Head{Revision: 1}}
	for i := range 4 {
		name, err := NewKeyName(namespace, string(rune('a'+i)))
		if err != nil {
			t.Fatal(err)
		}
		c.names = append(c.names, name)
		contents.Keys = append(contents.Keys, &Key{Name: name, Primary: 1, RotationPeriod: time.Duration(i+1) * time.Hour})
		contents.Versions = append(contents.Versions, &Version{
			Name: name.Version(1), UID: hsm.UID{byte(i)}, State: StateEnabled, CreateTime: c.start,
		})
	}
	c.now = snapshotOf(contents, nil)
	c.look(c.start)
	return c
}

// look lets both errands look, and rest for a minute.
func (c *scheduled) look(at time.Time) {
	c.s.rotator.dueKeys(c.now, at)
	c.s.dueForDestruction(c.now, at)
	until := at.Add(errandRest)
	c.s.rotator.until.Store(&until)
	c.s.destroyer.until.Store(&until)
}

// concern applies a change and says which errands it concerns.
func (c *scheduled) concern(at time.Time, change *Delta) (rotator, destroyer bool) {
	change.Head = Head{Revision: c.now.Revision() + 1}
	next := c.now.apply(change)
	changes := []*Delta{nil, change}
	rotator = c.s.rotator.concerned(c.now, next, changes, at)
	destroyer = c.s.destruction.concerned(&c.s.destroyer, c.now, next, changes, at)
	c.now = next
	return rotator, destroyer
}

func (c *scheduled) key(i int, change func(*Key)) *Delta {
	k := c.now.key(c.names[i]).Clone()
	change(k)
	return &Delta{Keys: []*Key{k}}
}

func (c *scheduled) version(i int, change func(*Version)) *Delta {
	v := *c.now.version(c.names[i].Version(1)).Version
	change(&v)
	return &Delta{Versions: []*Version{&v}}
}

func (c *scheduled) doomed(i int, when time.Time) *Delta {
	return c.version(i, func(v *Version) { v.State, v.DestroyTime, v.RestoreTo = StateDestroyScheduled, when, StateDisabled })
}

// Errands of set times look again when something is to be done sooner than they would look,
// or the next time that they tell is no longer right; other changes leave them alone.
func TestLookAgain(t *testing.T) {
	t.Parallel()
	c := newScheduled(t)
	at := c.start.Add(time.Second)
	orphan := &Orphan{UID: hsm.UID{9}, DestroyTime: at.Add(time.Hour)}
	for i, step := range []struct {
		what               string
		change             *Delta
		rotator, destroyer bool
	}{
		{"labels", c.key(0, func(k *Key) { k.Labels = map[string]string{"a": "b"} }), false, false},
		{"a first use", c.version(0, func(v *Version) { v.FirstUse = at }), false, false},
		{"a later key has another period", c.key(3, func(k *Key) { k.RotationPeriod = 5 * time.Hour }), false, false},
		{"one that is sooner than all", c.key(3, func(k *Key) { k.RotationPeriod = time.Minute * 30 }), true, false},
		{"the soonest is disabled", c.version(3, func(v *Version) { v.State = StateDisabled }), true, false},
		{"enabled, soonest again", c.version(3, func(v *Version) { v.State = StateEnabled }), true, false},
		{"a later one is revoked", c.version(2, func(v *Version) { v.State = StateRevoked }), false, false},
		{"the first to be destroyed", c.doomed(2, at.Add(48*time.Hour)), false, true},
		{"a later one", c.doomed(1, at.Add(72*time.Hour)), false, false},
		{"the first is restored", c.version(2, func(v *Version) { v.State, v.DestroyTime = StateRevoked, time.Time{} }), false, true},
		{"destroyed within the rest", c.doomed(2, at.Add(time.Second)), false, true},
		{"an orphan, after that", &Delta{Orphans: []*Orphan{orphan}}, false, false},
		{"which is gone again", &Delta{RemovedOrphans: []hsm.UID{orphan.UID}}, false, false},
		{"the store was put back", &Delta{Origin: &Origin{Epoch: 1, Time: at}}, false, true},
	} {
		rotator, destroyer := c.concern(at, step.change)
		if rotator != step.rotator || destroyer != step.destroyer {
			t.Errorf("step %d, %s: concerns the rotator: %v, the destroyer: %v", i, step.what, rotator, destroyer)
		}
		c.look(c.start)
	}
}

// An errand that works, or whose rest should be over, is always woken: it may have looked
// at what was before.
func TestLookAgainAtOnce(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Duration{errandRest, 24 * time.Hour} {
		c := newScheduled(t)
		if rotator, destroyer := c.concern(c.start.Add(at), &Delta{}); !rotator || !destroyer {
			t.Errorf("when the rest should be over: the rotator: %v, the destroyer: %v", rotator, destroyer)
		}
	}
	c := newScheduled(t)
	c.s.rotator.until.Store(nil)
	c.s.destroyer.until.Store(nil)
	if rotator, destroyer := c.concern(c.start, &Delta{}); !rotator || !destroyer {
		t.Errorf("while they work: the rotator: %v, the destroyer: %v", rotator, destroyer)
	}
	c.look(c.start)
	c.s.rotator.soon = map[KeyName]uint32{c.names[2]: 1}
	if rotator, _ := c.concern(c.start, c.key(2, func(*Key) {})); !rotator {
		t.Error("a key that is to be rotated soon has changed, and the rotator is not woken")
	}
}

// BenchmarkLookAgain is what each change costs beside its commit.
func BenchmarkLookAgain(b *testing.B) {
	for _, keys := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			now, names := crowdedSnapshot(b, keys)
			s := &Service{destruction: DestructionLimits{}.withDefaults(), now: time.Now}
			at := time.Now()
			s.rotator.dueKeys(now, at)
			until := at.Add(time.Hour)
			s.rotator.until.Store(&until)
			s.destroyer.until.Store(&until)
			i := 0
			for b.Loop() {
				i++
				key := now.key(names[i*7919%len(names)])
				s.lookAgain(now, now, &Delta{Keys: []*Key{key.Key}, Versions: []*Version{key.versions[0].Version}})
			}
		})
	}
}
