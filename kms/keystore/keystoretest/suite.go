package keystoretest

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// Target is one new, empty store and the ways to come back to it.
type Target struct {
	Store kms.Store
	// Reopen closes Store, opens the same store again and puts it into Store.
	Reopen func(t *testing.T)
	// Second opens the same store once more, as another process does; it ends with the
	// test. nil: the store belongs to one process.
	Second func(t *testing.T) kms.Store
	// Exec runs SQL statements on the database, with nothing of the store between, as
	// somebody would who can write it, and without checks of foreign keys. The store is
	// closed in the meantime, and then opened again and put into Store.
	Exec func(t *testing.T, statements ...string)
	// SealKey makes another seal key, for Reseal.
	SealKey func(t *testing.T) hsm.UID
}

// Run runs the suite. open makes a store of its own for each test, which ends with it.
func Run(t *testing.T, open func(t *testing.T) *Target) {
	for _, group := range [][]test{commitTests, deltaTests, reservationTests, coordinationTests, adminTests, tamperTests} {
		for _, test := range group {
			t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
		}
	}
}

// test is one test of the suite.
type test struct {
	name string
	run  func(*testing.T, *Target)
}

var commitTests = []test{
	{"New", testNew},
	{"RoundTrip", testRoundTrip},
	{"ZeroFields", testZeroFields},
	{"Revisions", testRevisions},
	{"Heads", testHeads},
	{"PutExisting", testPutExisting},
	{"PutStale", testPutStale},
	{"PutMissing", testPutMissing},
	{"FixedFields", testFixedFields},
	{"References", testReferences},
	{"UIDOnce", testUIDOnce},
	{"Remove", testRemove},
	{"AllOrNothing", testAllOrNothing},
	{"InputIsNotChanged", testInputIsNotChanged},
	{"UnstorableText", testUnstorableText},
	{"Cancelled", testCancelled},
	{"ConcurrentCommits", testConcurrentCommits},
	{"Diagnose", testDiagnose},
}

func testNew(t *testing.T, target *Target) {
	id := target.Store.ID()
	if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(id) {
		t.Errorf("the identity is %q", id)
	}
	if diff := cmp.Diff(&kms.Contents{}, load(t, target.Store), compare...); diff != "" {
		t.Errorf("a new store holds something (-want +got):\n%s", diff)
	}
	target.Reopen(t)
	if got := target.Store.ID(); got != id {
		t.Errorf("the identity was %s and is now %s", id, got)
	}
}

func testDiagnose(t *testing.T, target *Target) {
	populate(t, target.Store)
	findings := target.Store.Diagnose(t.Context())
	if len(findings) == 0 {
		t.Fatal("no findings")
	}
	contents := slices.IndexFunc(findings, func(f kms.Finding) bool { return f.Check == "contents" })
	if contents < 0 || !strings.Contains(findings[contents].Detail, "1 namespace, 2 keys, 3 versions, 2 orphans, 2 import jobs") {
		t.Errorf("the contents are not reported: %+v", findings)
	}
	for _, f := range findings {
		if f.Area != "store" || f.Check == "" || f.Detail == "" {
			t.Errorf("incomplete finding %+v", f)
		}
		if f.Severity == kms.SeverityError {
			t.Errorf("a good store has the finding %+v", f)
		}
	}
}

// compare is how contents are compared: regardless of the order of rows, of the time
// zone, and of nil against empty.
var compare = []cmp.Option{
	cmp.AllowUnexported(kms.NamespaceName{}, kms.KeyName{}, kms.VersionName{}, kms.ImportJobName{}),
	cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }),
	cmpopts.EquateEmpty(),
	cmpopts.SortSlices(func(a, b *kms.Namespace) bool { return a.Name.String() < b.Name.String() }),
	cmpopts.SortSlices(func(a, b *kms.Key) bool { return a.Name.String() < b.Name.String() }),
	cmpopts.SortSlices(func(a, b *kms.Orphan) bool { return a.UID.String() < b.UID.String() }),
	cmpopts.SortSlices(func(a, b *kms.ImportJob) bool { return a.Name.String() < b.Name.String() }),
	cmpopts.SortSlices(func(a, b *kms.Version) bool { return a.Name.String() < b.Name.String() }),
}

func load(t testing.TB, store kms.Store) *kms.Contents {
	t.Helper()
	contents, err := store.Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v (%v)", err, errors.Unwrap(err))
	}
	return contents
}

// commit makes a change that is computed from nothing that the store holds.
func commit(t testing.TB, store kms.Store, change *kms.Change) kms.Head {
	t.Helper()
	head, err := put(t.Context(), store, change)
	if err != nil {
		t.Fatalf("Update: %v (%v)", err, errors.Unwrap(err))
	}
	return head
}

func put(ctx context.Context, store kms.Store, change *kms.Change) (kms.Head, error) {
	return store.Update(ctx, 0, func(*kms.Delta) (*kms.Change, error) { return change, nil })
}

// refused makes a change that must fail with the sentinel and leave the store as it is.
func refused(t *testing.T, store kms.Store, change *kms.Change, sentinel error) {
	t.Helper()
	before := load(t, store)
	if head, err := put(t.Context(), store, change); !errors.Is(err, sentinel) || head != (kms.Head{}) {
		t.Errorf("Update: %v, want an error that is %q", err, sentinel)
	}
	if diff := cmp.Diff(before, load(t, store), compare...); diff != "" {
		t.Errorf("the refused change left something (-before +after):\n%s", diff)
	}
}

// populate makes one namespace, a DERIVED key of two versions and a STRICT key of one,
// an origin, two orphans and two import jobs in one change, and returns what is then stored.
func populate(t testing.TB, store kms.Store) *kms.Contents {
	t.Helper()
	namespace := Namespace(t, "shop")
	derived := Key(t, namespace, "orders", kms.ProfileDerived)
	derived.Primary = 2
	strict := Key(t, namespace, "cards", kms.ProfileStrict)
	strict.Primary = 1
	change := &kms.Change{
		Namespaces: []*kms.Namespace{namespace},
		Keys:       []*kms.Key{derived, strict},
		Versions:   []*kms.Version{Version(derived, 1), Version(derived, 2), Version(strict, 1)},
		Orphans:    []*kms.Orphan{Orphan(), Orphan()},
		ImportJobs: []*kms.ImportJob{ImportJob(t, namespace, "laptop"), ImportJob(t, namespace, "migration")},
		Origin:     &kms.Origin{Epoch: 1, Time: sampleTime, Principal: "unix:0", Reason: "restored\nfrom a backup"},
	}
	return stored(change, commit(t, store, change))
}

// stored is what a change that has only new rows leaves in an empty store.
func stored(change *kms.Change, head kms.Head) *kms.Contents {
	contents := &kms.Contents{Head: head}
	for _, n := range change.Namespaces {
		c := *n
		c.Revision = head.Revision
		contents.Namespaces = append(contents.Namespaces, &c)
	}
	for _, k := range change.Keys {
		c := k.Clone()
		c.Revision = head.Revision
		contents.Keys = append(contents.Keys, c)
	}
	for _, v := range change.Versions {
		c := *v
		c.Revision = head.Revision
		contents.Versions = append(contents.Versions, &c)
	}
	for _, o := range change.Orphans {
		c := *o
		c.Revision = head.Revision
		contents.Orphans = append(contents.Orphans, &c)
	}
	for _, j := range change.ImportJobs {
		c := *j
		c.Revision = head.Revision
		contents.ImportJobs = append(contents.ImportJobs, &c)
	}
	if change.Origin != nil {
		c := *change.Origin
		c.Revision = head.Revision
		contents.Origin = &c
	}
	return contents
}

// cancelled is a context that is done.
func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
