package keystoretest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholt/keyholt/kms"
)

var deltaTests = []test{
	{"Changes", testChanges},
	{"ChangesRemoved", testChangesRemoved},
	{"ChangesInTheFuture", testChangesInTheFuture},
	{"UpdateSeesOthers", testUpdateSeesOthers},
	{"UpdateNothing", testUpdateNothing},
	{"UpdateConflict", testUpdateConflict},
	{"TwoHandles", testTwoHandles},
	{"ConcurrentHandles", testConcurrentHandles},
	{"Model", testModel},
}

// second opens the store once more, or skips the test.
func (target *Target) second(t *testing.T) kms.Store {
	t.Helper()
	if target.Second == nil {
		t.Skip("this store is not shared")
	}
	return target.Second(t)
}

func changes(t testing.TB, store kms.Store, since kms.Revision) *kms.Delta {
	t.Helper()
	delta, err := store.Changes(t.Context(), since)
	if err != nil {
		t.Fatalf("Changes(%d): %v (%v)", since, err, errors.Unwrap(err))
	}
	return delta
}

// testChanges holds that what has changed is told for one revision, for several at once,
// and from the beginning; by the store that has made the changes, by one that has just
// been opened, and by another one.
func testChanges(t *testing.T, target *Target) {
	first := populate(t, target.Store)
	key := first.Keys[0].Clone()
	key.Labels = map[string]string{"team": "blue"}
	keyed := commit(t, target.Store, &kms.Change{Keys: []*kms.Key{key}})
	key.Revision = keyed.Revision
	version := *first.Versions[0]
	version.State = kms.StateDisabled
	versioned := commit(t, target.Store, &kms.Change{Versions: []*kms.Version{&version}})
	version.Revision = versioned.Revision
	if _, _, err := target.Store.ReserveEncryptions(t.Context(), first.Versions[2].UID, 1, 10); err != nil {
		t.Fatal(err)
	}
	last := load(t, target.Store).Head

	all := &kms.Delta{
		Head: last, Origin: first.Origin, Namespaces: first.Namespaces, Keys: []*kms.Key{key, first.Keys[1]},
		Versions: []*kms.Version{&version, first.Versions[1], first.Versions[2]}, Orphans: first.Orphans,
		ImportJobs: first.ImportJobs,
	}
	want := map[kms.Revision]*kms.Delta{
		0:                   all,
		first.Head.Revision: {Head: last, Keys: []*kms.Key{key}, Versions: []*kms.Version{&version}},
		keyed.Revision:      {Head: last, Versions: []*kms.Version{&version}},
		versioned.Revision:  {Head: last}, // an encryption counter is no row of the delta
		last.Revision:       {Head: last},
	}
	check := func(store kms.Store, of string) {
		t.Helper()
		for since, delta := range want {
			if diff := cmp.Diff(delta, changes(t, store, since), compare...); diff != "" {
				t.Errorf("%s: changes since %d (-want +got):\n%s", of, since, diff)
			}
		}
	}
	check(target.Store, "the same store")
	target.Reopen(t)
	check(target.Store, "a store just opened")
	if target.Second != nil {
		check(target.second(t), "another store")
	}
}

// testChangesRemoved holds that what is gone is named, unless it is there again.
func testChangesRemoved(t *testing.T, target *Target) {
	first := populate(t, target.Store)
	key := Key(t, first.Namespaces[0], "short-lived", kms.ProfileStrict)
	version := Version(key, 1)
	orphan := first.Orphans[0]
	job := ImportJob(t, first.Namespaces[0], "short-lived")
	creation := &kms.Change{
		Keys: []*kms.Key{key}, Versions: []*kms.Version{version}, ImportJobs: []*kms.ImportJob{job},
	}
	created := commit(t, target.Store, creation)
	made := stored(creation, created)
	removed := commit(t, target.Store, &kms.Change{
		RemoveKeys: made.Keys, RemoveVersions: made.Versions, RemoveOrphans: []*kms.Orphan{orphan},
		RemoveImportJobs: made.ImportJobs,
	})
	want := &kms.Delta{
		Head: removed, RemovedKeys: []kms.KeyName{key.Name}, RemovedVersions: []kms.VersionName{version.Name},
		RemovedImportJobs: []kms.ImportJobName{job.Name},
	}
	want.RemovedOrphans = append(want.RemovedOrphans, orphan.UID)
	check := func() {
		t.Helper()
		if diff := cmp.Diff(want, changes(t, target.Store, created.Revision), compare...); diff != "" {
			t.Errorf("changes after a removal (-want +got):\n%s", diff)
		}
	}
	check()
	target.Reopen(t)
	check()

	again := commit(t, target.Store, creation)
	made = stored(creation, again)
	want = &kms.Delta{
		Head: again, Keys: made.Keys, Versions: made.Versions, ImportJobs: made.ImportJobs, RemovedOrphans: want.RemovedOrphans,
	}
	check()
	if diff := cmp.Diff(&kms.Delta{Head: again, Keys: made.Keys, Versions: made.Versions, ImportJobs: made.ImportJobs},
		changes(t, target.Store, removed.Revision), compare...); diff != "" {
		t.Errorf("changes after the removal (-want +got):\n%s", diff)
	}
	removed = commit(t, target.Store, &kms.Change{
		RemoveKeys: made.Keys, RemoveVersions: made.Versions, RemoveImportJobs: made.ImportJobs,
	})
	want = &kms.Delta{
		RemovedImportJobs: []kms.ImportJobName{job.Name},
		Head:              removed, RemovedKeys: []kms.KeyName{key.Name}, RemovedVersions: []kms.VersionName{version.Name},
		RemovedOrphans: want.RemovedOrphans,
	}
	check()
	target.Reopen(t)
	check()
}

func testChangesInTheFuture(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	for range 2 {
		if _, err := target.Store.Changes(t.Context(), contents.Head.Revision+1); !errors.Is(err, kms.ErrStoreWentBack) {
			t.Errorf("Changes: %v", err)
		}
		_, err := target.Store.Update(t.Context(), contents.Head.Revision+1, func(*kms.Delta) (*kms.Change, error) {
			t.Error("Update computes a change from a store that went back")
			return nil, nil
		})
		if !errors.Is(err, kms.ErrStoreWentBack) {
			t.Errorf("Update: %v", err)
		}
		target.Reopen(t)
	}
}

// testUpdateSeesOthers holds that build gets what changed since the revision that the
// caller knows, whoever has changed it.
func testUpdateSeesOthers(t *testing.T, target *Target) {
	other := target.second(t)
	known := populate(t, target.Store)
	key := known.Keys[0].Clone()
	key.Labels = map[string]string{"team": "blue"}
	head := commit(t, other, &kms.Change{Keys: []*kms.Key{key}})
	key.Revision = head.Revision
	want := &kms.Delta{Head: head, Keys: []*kms.Key{key}}

	head, err := target.Store.Update(t.Context(), known.Head.Revision, func(delta *kms.Delta) (*kms.Change, error) {
		if diff := cmp.Diff(want, delta, compare...); diff != "" {
			t.Errorf("the delta (-want +got):\n%s", diff)
		}
		next := delta.Keys[0].Clone()
		next.Labels = map[string]string{"team": "green"}
		return &kms.Change{Keys: []*kms.Key{next}}, nil
	})
	if err != nil || head.Revision != want.Head.Revision+1 {
		t.Fatalf("Update: revision %d, %v", head.Revision, err)
	}
	got := load(t, other)
	if got.Head != head {
		t.Errorf("the other store has the head %v, want %v", got.Head, head)
	}
	delta := changes(t, other, want.Head.Revision)
	if len(delta.Keys) != 1 || delta.Keys[0].Labels["team"] != "green" || delta.Head != head {
		t.Errorf("the other store has seen %+v", delta)
	}
}

// testUpdateNothing holds that a build that makes nothing, for whatever reason, leaves
// the store as it is.
func testUpdateNothing(t *testing.T, target *Target) {
	refusal := errors.New("not now")
	for range 2 { // at revision 0 too
		before := load(t, target.Store)
		for _, want := range []error{nil, refusal} {
			calls := 0
			head, err := target.Store.Update(t.Context(), 0, func(*kms.Delta) (*kms.Change, error) {
				calls++
				return nil, want
			})
			if head != before.Head || err != want || calls != 1 { //nolint:errorlint // the error itself is handed back
				t.Errorf("Update: head %v, %v after %d calls; want head %v, %v", head, err, calls, before.Head, want)
			}
		}
		_, err := target.Store.Update(t.Context(), 0, func(*kms.Delta) (*kms.Change, error) {
			return &kms.Change{Namespaces: []*kms.Namespace{Namespace(t, "never")}}, refusal
		})
		if !errors.Is(err, refusal) {
			t.Errorf("Update: %v", err)
		}
		if diff := cmp.Diff(before, load(t, target.Store), compare...); diff != "" {
			t.Errorf("something was done (-before +after):\n%s", diff)
		}
		if before.Head.Revision == 0 {
			populate(t, target.Store)
		}
	}
}

// testUpdateConflict holds that a change of a row that another has changed is refused.
func testUpdateConflict(t *testing.T, target *Target) {
	other := target.second(t)
	known := populate(t, target.Store)
	commit(t, other, &kms.Change{Keys: []*kms.Key{known.Keys[0].Clone()}})
	refused(t, target.Store, &kms.Change{Keys: []*kms.Key{known.Keys[0].Clone()}}, kms.ErrConflict)
	commit(t, other, &kms.Change{RemoveOrphans: known.Orphans[:1]})
	refused(t, target.Store, &kms.Change{RemoveOrphans: known.Orphans[:1]}, kms.ErrConflict)
	commit(t, target.Store, &kms.Change{RemoveOrphans: known.Orphans[1:]})
}

// testTwoHandles lets two processes change one store in turns.
func testTwoHandles(t *testing.T, target *Target) {
	stores := []kms.Store{target.Store, target.second(t)}
	contents := populate(t, stores[0])
	key := contents.Keys[0]
	for i := range 20 {
		store := stores[i%2]
		next := key.Clone()
		next.Primary = uint32(1 + i%2)
		head := commit(t, store, &kms.Change{
			Keys: []*kms.Key{next}, Versions: []*kms.Version{Version(key, uint32(3+i))},
		})
		next.Revision = head.Revision
		key = next
		_, before, err := stores[i%3%2].ReserveEncryptions(t.Context(), contents.Versions[2].UID, 10, 1000)
		if err != nil || before != uint64(10*i) {
			t.Fatalf("ReserveEncryptions: before %d, %v", before, err)
		}
	}
	a, b := load(t, stores[0]), load(t, stores[1])
	if diff := cmp.Diff(a, b, compare...); diff != "" || len(a.Versions) != 23 {
		t.Errorf("two stores differ (-first +second):\n%s", diff)
	}
}

// testConcurrentHandles lets two processes, each of several goroutines, change one store
// while others follow the changes and load everything.
func testConcurrentHandles(t *testing.T, target *Target) {
	stores := []kms.Store{target.Store, target.second(t)}
	contents := populate(t, stores[0])
	strict := contents.Versions[2]
	const writers, rounds = 2, 10
	var group sync.WaitGroup
	for i, store := range stores {
		for w := range writers {
			group.Go(func() {
				known := contents.Head.Revision
				key := Key(t, contents.Namespaces[0], fmt.Sprintf("key-%d-%d", i, w), kms.ProfileDerived)
				for round := range uint32(rounds) {
					head, err := store.Update(t.Context(), known, func(*kms.Delta) (*kms.Change, error) {
						next := key.Clone()
						next.Primary = round + 1
						return &kms.Change{Keys: []*kms.Key{next}, Versions: []*kms.Version{Version(key, next.Primary)}}, nil
					})
					if err != nil {
						t.Errorf("Update: %v (%v)", err, errors.Unwrap(err))
						return
					}
					known, key.Revision = head.Revision, head.Revision
				}
			})
			group.Go(func() {
				for range rounds {
					if taken, _, err := store.ReserveEncryptions(t.Context(), strict.UID, 1, 1<<32); err != nil || taken != 1 {
						t.Errorf("ReserveEncryptions: %d, %v (%v)", taken, err, errors.Unwrap(err))
					}
				}
			})
		}
	}
	const made = 2 * 2 * writers * rounds
	last := contents.Head.Revision + made
	followed := make([]*mirror, 0, 2*len(stores))
	for _, store := range stores {
		for range 2 {
			m := newMirror()
			m.commit(&kms.Change{
				Origin: contents.Origin, Namespaces: contents.Namespaces, Keys: contents.Keys,
				Versions: contents.Versions, Orphans: contents.Orphans, ImportJobs: contents.ImportJobs,
			}, contents.Head)
			followed = append(followed, m)
			group.Go(func() {
				for m.head.Revision < last && !t.Failed() {
					delta, err := store.Changes(t.Context(), m.head.Revision)
					if err != nil {
						t.Errorf("Changes: %v (%v)", err, errors.Unwrap(err))
						return
					}
					m.apply(delta)
				}
			})
		}
		group.Go(func() {
			for range rounds {
				if _, err := store.Load(t.Context()); err != nil {
					t.Errorf("Load: %v (%v)", err, errors.Unwrap(err))
				}
			}
		})
	}
	group.Wait()
	want := load(t, stores[0])
	if want.Head.Revision != last {
		t.Errorf("the last revision is %d, want %d", want.Head.Revision, last)
	}
	for _, m := range followed {
		if diff := cmp.Diff(want, m.contents(), compare...); diff != "" {
			t.Errorf("what is loaded and what the deltas told differ (-loaded +told):\n%s", diff)
		}
	}
}
