package keystoretest

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholt/keyholt/kms"
)

func testRoundTrip(t *testing.T, target *Target) {
	want := populate(t, target.Store)
	if diff := cmp.Diff(want, load(t, target.Store), compare...); diff != "" {
		t.Errorf("stored and loaded differ (-want +got):\n%s", diff)
	}
	target.Reopen(t)
	if diff := cmp.Diff(want, load(t, target.Store), compare...); diff != "" {
		t.Errorf("stored and loaded differ after reopening (-want +got):\n%s", diff)
	}
}

// testZeroFields holds that what is empty is not confused with what is zero.
func testZeroFields(t *testing.T, target *Target) {
	namespace := Namespace(t, "n")
	key := &kms.Key{
		Name:      Key(t, namespace, "k", kms.ProfileDerived).Name,
		Purpose:   kms.PurposeEncryptDecrypt,
		Algorithm: kms.AlgorithmAES256,
		Profile:   kms.ProfileDerived,
	}
	bare := &kms.Version{Name: key.Name.Version(1), State: kms.StateCreating}
	epoch := Version(key, 2)
	epoch.FirstUse = time.Unix(0, 0)
	change := &kms.Change{
		Namespaces: []*kms.Namespace{namespace},
		Keys:       []*kms.Key{key},
		Versions:   []*kms.Version{bare, epoch},
	}
	want := stored(change, commit(t, target.Store, change))
	got := load(t, target.Store)
	if diff := cmp.Diff(want, got, compare...); diff != "" {
		t.Errorf("stored and loaded differ (-want +got):\n%s", diff)
	}
	for _, v := range got.Versions {
		if v.Name == bare.Name && !v.FirstUse.IsZero() || v.Name == epoch.Name && v.FirstUse.IsZero() {
			t.Errorf("version %d was first used at %v", v.Name.Number(), v.FirstUse)
		}
	}
}

func testRevisions(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	if contents.Head.Revision != 1 {
		t.Errorf("the first revision is %d", contents.Head.Revision)
	}
	key := contents.Keys[0].Clone()
	key.Labels = map[string]string{"team": "blue"}
	key.Primary = 1
	version := *contents.Versions[0]
	version.State = kms.StateRevoked
	version.StateReason = "leaked"
	head := commit(t, target.Store, &kms.Change{Keys: []*kms.Key{key}, Versions: []*kms.Version{&version}})
	if head.Revision != 2 {
		t.Errorf("the second revision is %d", head.Revision)
	}
	key.Revision, version.Revision = head.Revision, head.Revision
	contents.Head = head
	contents.Keys[0], contents.Versions[0] = key, &version
	if diff := cmp.Diff(contents, load(t, target.Store), compare...); diff != "" {
		t.Errorf("after a change of one key and one version (-want +got):\n%s", diff)
	}
}

// testHeads holds that a head is of one state: equal where nothing has changed, of any
// process, and different wherever something has.
func testHeads(t *testing.T, target *Target) {
	seen := map[kms.Head]bool{{}: true}
	note := func(head kms.Head) {
		t.Helper()
		if seen[head] {
			t.Errorf("revision %d has the head of another state", head.Revision)
		}
		seen[head] = true
		if got := load(t, target.Store).Head; got != head {
			t.Errorf("the head was %v and is now %v", head, got)
		}
	}
	contents := populate(t, target.Store)
	note(contents.Head)
	key := contents.Keys[0].Clone()
	for range 2 { // the same row again, but for its revision
		head := commit(t, target.Store, &kms.Change{Keys: []*kms.Key{key}})
		note(head)
		key.Revision = head.Revision
		target.Reopen(t)
	}
	note(commit(t, target.Store, &kms.Change{})) // nothing but a revision
	orphan := contents.Orphans[0]
	note(commit(t, target.Store, &kms.Change{RemoveOrphans: []*kms.Orphan{orphan}}))
}

func testPutExisting(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	namespace, key, version := *contents.Namespaces[0], contents.Keys[0].Clone(), *contents.Versions[0]
	namespace.Revision, key.Revision, version.Revision = 0, 0, 0
	refused(t, target.Store, &kms.Change{Namespaces: []*kms.Namespace{&namespace}}, kms.ErrConflict)
	refused(t, target.Store, &kms.Change{Keys: []*kms.Key{key}}, kms.ErrConflict)
	refused(t, target.Store, &kms.Change{Versions: []*kms.Version{&version}}, kms.ErrConflict)
}

func testPutStale(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	stale := contents.Keys[0].Clone()
	fresh := contents.Keys[0].Clone()
	commit(t, target.Store, &kms.Change{Keys: []*kms.Key{fresh}})
	refused(t, target.Store, &kms.Change{Keys: []*kms.Key{stale}}, kms.ErrConflict)

	version := *contents.Versions[0]
	version.Revision++ // not there yet
	refused(t, target.Store, &kms.Change{Versions: []*kms.Version{&version}}, kms.ErrConflict)
	namespace := *contents.Namespaces[0]
	namespace.Revision++
	refused(t, target.Store, &kms.Change{Namespaces: []*kms.Namespace{&namespace}}, kms.ErrConflict)
}

func testPutMissing(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	namespace := Namespace(t, "elsewhere")
	namespace.Revision = 1
	refused(t, target.Store, &kms.Change{Namespaces: []*kms.Namespace{namespace}}, kms.ErrConflict)
	key := Key(t, contents.Namespaces[0], "elsewhere", kms.ProfileDerived)
	key.Revision = 1
	refused(t, target.Store, &kms.Change{Keys: []*kms.Key{key}}, kms.ErrConflict)
	version := Version(contents.Keys[0], 9)
	version.Revision = 1
	refused(t, target.Store, &kms.Change{Versions: []*kms.Version{version}}, kms.ErrConflict)
}

// testFixedFields holds that a row cannot become another object's.
func testFixedFields(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	version := *contents.Versions[0]
	version.UID[0] ^= 1
	refused(t, target.Store, &kms.Change{Versions: []*kms.Version{&version}}, kms.ErrConflict)
	key := contents.Keys[0].Clone()
	key.Profile = kms.ProfileStrict
	refused(t, target.Store, &kms.Change{Keys: []*kms.Key{key}}, kms.ErrConflict)
}

func testReferences(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	orphan := Key(t, Namespace(t, "elsewhere"), "k", kms.ProfileDerived)
	refused(t, target.Store, &kms.Change{Keys: []*kms.Key{orphan}}, kms.ErrConflict)
	keyless := Version(Key(t, contents.Namespaces[0], "elsewhere", kms.ProfileDerived), 1)
	refused(t, target.Store, &kms.Change{Versions: []*kms.Version{keyless}}, kms.ErrConflict)
	refused(t, target.Store, &kms.Change{RemoveKeys: []*kms.Key{contents.Keys[0]}}, kms.ErrConflict)
}

func testUIDOnce(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	version := Version(contents.Keys[1], 2)
	version.UID = contents.Versions[0].UID
	refused(t, target.Store, &kms.Change{Versions: []*kms.Version{version}}, kms.ErrConflict)
}

func testRemove(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	key := Key(t, contents.Namespaces[0], "short-lived", kms.ProfileStrict)
	version := Version(key, 1)
	version.State = kms.StateCreating
	creation := &kms.Change{Keys: []*kms.Key{key}, Versions: []*kms.Version{version}}
	head := commit(t, target.Store, creation)

	stale := &kms.Change{RemoveKeys: []*kms.Key{key}, RemoveVersions: []*kms.Version{version}}
	refused(t, target.Store, stale, kms.ErrConflict) // of revision 0
	made := stored(creation, head)
	removal := &kms.Change{RemoveKeys: made.Keys, RemoveVersions: made.Versions}
	contents.Head = commit(t, target.Store, removal)
	if diff := cmp.Diff(contents, load(t, target.Store), compare...); diff != "" {
		t.Errorf("after a removal (-want +got):\n%s", diff)
	}
	refused(t, target.Store, removal, kms.ErrConflict)
	commit(t, target.Store, creation) // name and UID are free again
}

func testAllOrNothing(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	key := contents.Keys[0].Clone()
	key.Labels = nil
	late := *contents.Versions[2]
	late.Revision = 77
	refused(t, target.Store, &kms.Change{
		Namespaces: []*kms.Namespace{Namespace(t, "another")},
		Keys:       []*kms.Key{key},
		Versions:   []*kms.Version{Version(contents.Keys[0], 3), &late},
	}, kms.ErrConflict)
}

func testInputIsNotChanged(t *testing.T, target *Target) {
	namespace := Namespace(t, "shop")
	key := Key(t, namespace, "orders", kms.ProfileDerived)
	version := Version(key, 1)
	wantKey, wantVersion := key.Clone(), *version
	wantVersion.Check = bytes.Clone(version.Check)
	commit(t, target.Store, &kms.Change{
		Namespaces: []*kms.Namespace{namespace}, Keys: []*kms.Key{key}, Versions: []*kms.Version{version},
	})
	if diff := cmp.Diff(wantKey, key, compare...) + cmp.Diff(&wantVersion, version, compare...); diff != "" {
		t.Errorf("Update changed its input (-before +after):\n%s", diff)
	}
	key.Labels["env"] = "changed"
	version.Check[0] ^= 1
	got := load(t, target.Store)
	if got.Keys[0].Labels["env"] != "prod" || !bytes.Equal(got.Versions[0].Check, wantVersion.Check) {
		t.Error("the store kept parts of its input")
	}
}

func testUnstorableText(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	for _, text := range []string{"zero\x00byte", "not UTF-8: \xff"} {
		version := *contents.Versions[0]
		version.StateReason = text
		refused(t, target.Store, &kms.Change{Versions: []*kms.Version{&version}}, kms.ErrInvalidRequest)
		key := contents.Keys[0].Clone()
		key.Labels["env"] = text
		refused(t, target.Store, &kms.Change{Keys: []*kms.Key{key}}, kms.ErrInvalidRequest)
		key = contents.Keys[0].Clone()
		key.Labels[text] = "v"
		refused(t, target.Store, &kms.Change{Keys: []*kms.Key{key}}, kms.ErrInvalidRequest)
		namespace := *contents.Namespaces[0]
		namespace.CreatedBy = text
		refused(t, target.Store, &kms.Change{Namespaces: []*kms.Namespace{&namespace}}, kms.ErrInvalidRequest)
	}
}

func testCancelled(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	ctx := cancelled(t)
	if _, err := target.Store.Load(ctx); !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("Load: %v", err)
	}
	change := &kms.Change{Versions: []*kms.Version{Version(contents.Keys[0], 3)}}
	if _, err := put(ctx, target.Store, change); !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("Update: %v", err)
	}
	if _, _, err := target.Store.ReserveEncryptions(ctx, contents.Versions[2].UID, 1, 9); !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("ReserveEncryptions: %v", err)
	}
	if diff := cmp.Diff(contents, load(t, target.Store), compare...); diff != "" {
		t.Errorf("a cancelled call did something (-want +got):\n%s", diff)
	}
	commit(t, target.Store, change)
}

// testConcurrentCommits holds that every change gets a revision of its own, and that
// of changes of one row at one revision only one succeeds.
func testConcurrentCommits(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	const writers = 8
	revisions := make([]kms.Revision, writers)
	wins := make([]bool, writers)
	additions := make([]*kms.Change, writers)
	for i := range writers {
		additions[i] = &kms.Change{Versions: []*kms.Version{Version(contents.Keys[0], uint32(3+i))}}
	}
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			head, err := put(t.Context(), target.Store, additions[i])
			if err != nil {
				t.Errorf("Update: %v", err)
			}
			revisions[i] = head.Revision
			_, err = put(t.Context(), target.Store, &kms.Change{Keys: []*kms.Key{contents.Keys[1].Clone()}})
			if err != nil && !errors.Is(err, kms.ErrConflict) {
				t.Errorf("Update: %v", err)
			}
			wins[i] = err == nil
		})
	}
	group.Wait()
	slices.Sort(revisions)
	if len(slices.Compact(revisions)) != writers {
		t.Errorf("two changes have the same revision: %v", revisions)
	}
	if winners := slices.DeleteFunc(wins, func(won bool) bool { return !won }); len(winners) != 1 {
		t.Errorf("%d of %d changes of the same row at the same revision succeeded", len(winners), writers)
	}
	got := load(t, target.Store)
	if want := contents.Head.Revision + writers + 1; got.Head.Revision != want || len(got.Versions) != 3+writers {
		t.Errorf("revision %d with %d versions, want %d with %d", got.Head.Revision, len(got.Versions), want, 3+writers)
	}
}
