package keystoretest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keyholt/keyholt/kms"
)

// testModel makes random changes by one store, or by two in turns, and holds that what
// is loaded, what the accumulated deltas tell of any steps, and what was put are the same.
func testModel(t *testing.T, target *Target) {
	m := &machine{target: target, expected: newMirror(), deltas: newMirror()}
	if target.Second != nil {
		m.other = target.Second(t)
	}
	contents := populate(t, target.Store)
	m.expected.commit(&kms.Change{
		Origin: contents.Origin, Namespaces: contents.Namespaces, Keys: contents.Keys,
		Versions: contents.Versions, Orphans: contents.Orphans, ImportJobs: contents.ImportJobs,
	}, contents.Head)
	rapid.Check(t, func(rt *rapid.T) {
		m.rt = rt
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			rapid.SampledFrom([]func(){
				m.createKey, m.createKey, m.addVersion, m.changeState, m.changeLabels, m.undoKey, m.undoVersion,
				m.addOrphan, m.removeOrphan, m.putImportJob, m.undoImportJob, m.putOrigin, m.reserve, m.follow,
			}).Draw(rt, "step")()
		}
		m.follow()
		m.check()
	})
	target.Reopen(t)
	want := m.expected.contents()
	if diff := cmp.Diff(want, load(t, target.Store), compare...); diff != "" {
		t.Errorf("what was put and what is loaded in the end differ (-put +loaded):\n%s", diff)
	}
	if diff := cmp.Diff(want, deltaContents(changes(t, target.Store, 0)), compare...); diff != "" {
		t.Errorf("what was put and all changes from the beginning differ (-put +told):\n%s", diff)
	}
}

// machine makes changes, each from what it expects to be stored.
type machine struct {
	rt       *rapid.T
	target   *Target
	other    kms.Store // nil: there is one store only
	expected *mirror   // what was put
	deltas   *mirror   // what the deltas told
}

// store is the one that acts next.
func (m *machine) store() kms.Store {
	if m.other != nil && rapid.Bool().Draw(m.rt, "other") {
		return m.other
	}
	return m.target.Store
}

func (m *machine) commit(change *kms.Change) {
	since := kms.Revision(rapid.Uint64Range(0, uint64(m.expected.head.Revision)).Draw(m.rt, "since"))
	head, err := m.store().Update(m.rt.Context(), since, func(*kms.Delta) (*kms.Change, error) { return change, nil })
	if err != nil {
		m.rt.Fatalf("Update: %v", err)
	}
	m.expected.commit(change, head)
}

func (m *machine) follow() {
	delta, err := m.store().Changes(m.rt.Context(), m.deltas.head.Revision)
	if err != nil {
		m.rt.Fatalf("Changes: %v", err)
	}
	m.deltas.apply(delta)
}

func (m *machine) check() {
	want := m.expected.contents()
	contents, err := m.store().Load(m.rt.Context())
	if err != nil {
		m.rt.Fatalf("Load: %v", err)
	}
	if diff := cmp.Diff(want, contents, compare...); diff != "" {
		m.rt.Fatalf("what was put and what is loaded differ (-put +loaded):\n%s", diff)
	}
	if diff := cmp.Diff(want, m.deltas.contents(), compare...); diff != "" {
		m.rt.Fatalf("what was put and what the deltas told differ (-put +told):\n%s", diff)
	}
}

// createKey makes a key of one version, by one of few names.
func (m *machine) createKey() {
	namespace := slices.Collect(maps.Values(m.expected.namespaces))[0]
	profile := rapid.SampledFrom([]kms.Profile{kms.ProfileDerived, kms.ProfileStrict}).Draw(m.rt, "profile")
	id := fmt.Sprintf("key-%d", rapid.IntRange(0, 5).Draw(m.rt, "key"))
	name, err := kms.NewKeyName(namespace.Name, id)
	if err != nil {
		m.rt.Fatal(err)
	}
	if m.expected.keys[name] != nil {
		return
	}
	key := Key(&testing.T{}, namespace, id, profile)
	m.commit(&kms.Change{Keys: []*kms.Key{key}, Versions: []*kms.Version{Version(key, 1)}})
}

// key picks a key, and its last version.
func (m *machine) key() (*kms.Key, *kms.Version) {
	names := slices.SortedFunc(maps.Keys(m.expected.keys), func(a, b kms.KeyName) int {
		return strings.Compare(a.String(), b.String())
	})
	key := m.expected.keys[rapid.SampledFrom(names).Draw(m.rt, "name")]
	last := uint32(1)
	for m.expected.versions[key.Name.Version(last+1)] != nil {
		last++
	}
	return key, m.expected.versions[key.Name.Version(last)]
}

func (m *machine) addVersion() {
	key, last := m.key()
	next := key.Clone()
	next.Primary = last.Name.Number() + 1
	m.commit(&kms.Change{Keys: []*kms.Key{next}, Versions: []*kms.Version{Version(key, next.Primary)}})
}

func (m *machine) changeState() {
	_, last := m.key()
	next := *last
	next.State = rapid.SampledFrom([]kms.State{
		kms.StateEnabled, kms.StateDisabled, kms.StateRewrapOnly, kms.StateRevoked, kms.StateDestroyScheduled, kms.StateDestroyed,
	}).Draw(m.rt, "state")
	next.RestoreTo = rapid.SampledFrom([]kms.State{0, kms.StateDisabled, kms.StateRevoked}).Draw(m.rt, "restore to")
	m.commit(&kms.Change{Versions: []*kms.Version{&next}})
}

func (m *machine) changeLabels() {
	key, _ := m.key()
	next := key.Clone()
	next.Labels = rapid.MapOf(rapid.StringMatching(`[a-z<&"é]{0,3}`), rapid.StringMatching(`[a-z]{0,3}`)).Draw(m.rt, "labels")
	m.commit(&kms.Change{Keys: []*kms.Key{next}})
}

// undoKey removes a key of one version that is not primary.
func (m *machine) undoKey() {
	key, last := m.key()
	if last.Name.Number() == 1 && key.Primary == 0 {
		m.commit(&kms.Change{RemoveKeys: []*kms.Key{key}, RemoveVersions: []*kms.Version{last}})
	}
}

// undoVersion removes the last of several versions.
func (m *machine) undoVersion() {
	key, last := m.key()
	if last.Name.Number() == 1 {
		return
	}
	next := key.Clone()
	next.Primary = last.Name.Number() - 1
	m.commit(&kms.Change{Keys: []*kms.Key{next}, RemoveVersions: []*kms.Version{last}})
}

func (m *machine) addOrphan() { m.commit(&kms.Change{Orphans: []*kms.Orphan{Orphan()}}) }

func (m *machine) removeOrphan() {
	for _, orphan := range m.expected.orphans {
		m.commit(&kms.Change{RemoveOrphans: []*kms.Orphan{orphan}})
		return
	}
}

// putImportJob makes an import job by one of few names, or changes the one there is.
func (m *machine) putImportJob() {
	namespace := slices.Collect(maps.Values(m.expected.namespaces))[0]
	job := ImportJob(&testing.T{}, namespace, fmt.Sprintf("job-%d", rapid.IntRange(0, 3).Draw(m.rt, "job")))
	if known := m.expected.importJobs[job.Name]; known != nil {
		*job = *known
		job.State = rapid.SampledFrom([]kms.ImportJobState{
			kms.ImportJobCreating, kms.ImportJobActive, kms.ImportJobExpired,
		}).Draw(m.rt, "job state")
	}
	m.commit(&kms.Change{ImportJobs: []*kms.ImportJob{job}})
}

func (m *machine) undoImportJob() {
	for _, job := range m.expected.importJobs {
		m.commit(&kms.Change{RemoveImportJobs: []*kms.ImportJob{job}})
		return
	}
}

func (m *machine) putOrigin() {
	next := *m.expected.origin
	next.Epoch++
	m.commit(&kms.Change{Origin: &next})
}

// reserve takes encryptions of a STRICT version, which changes the head and nothing else.
func (m *machine) reserve() {
	key, last := m.key()
	if key.Profile != kms.ProfileStrict {
		return
	}
	store := m.store()
	if _, _, err := store.ReserveEncryptions(m.rt.Context(), last.UID, 1, 1<<32); err != nil {
		m.rt.Fatalf("ReserveEncryptions: %v", err)
	}
	delta, err := store.Changes(m.rt.Context(), m.expected.head.Revision)
	if err != nil {
		m.rt.Fatalf("Changes: %v", err)
	}
	m.expected.head = delta.Head
}

// deltaContents is what a delta from the beginning leaves.
func deltaContents(delta *kms.Delta) *kms.Contents {
	m := newMirror()
	m.apply(delta)
	return m.contents()
}
