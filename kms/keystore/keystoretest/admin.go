package keystoretest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

var adminTests = []test{
	{"Usage", testUsage},
	{"UsageOfMany", testUsageOfMany},
	{"Reseal", testReseal},
	{"ResealSeenByOthers", testResealSeenByOthers},
	{"BackupRoundTrip", testBackupRoundTrip},
	{"BackupDamaged", testBackupDamaged},
}

func testUsage(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	a, b := contents.Versions[0].UID, contents.Versions[1].UID
	at := sampleTime.Add(time.Hour)
	add := func(counts ...kms.UsageCount) {
		t.Helper()
		if err := target.Store.AddUsage(t.Context(), counts); err != nil {
			t.Fatalf("AddUsage: %v", err)
		}
	}
	add()
	add(kms.UsageCount{UID: a, Action: kms.ActionEncrypt, Count: 3, LastUsed: at},
		kms.UsageCount{UID: a, Action: kms.ActionDecrypt, Count: 1, LastUsed: at},
		kms.UsageCount{UID: a, Action: kms.ActionEncrypt, Count: 4, LastUsed: at.Add(-time.Minute)})
	target.Reopen(t)
	add(kms.UsageCount{UID: a, Action: kms.ActionEncrypt, Count: 10, LastUsed: at.Add(-time.Second)},
		kms.UsageCount{UID: a, Action: kms.ActionDecrypt, Count: 1 << 40, LastUsed: at.Add(time.Second)})

	want := []kms.UsageCount{
		{UID: a, Action: kms.ActionDecrypt, Count: 1<<40 + 1, LastUsed: at.Add(time.Second)},
		{UID: a, Action: kms.ActionEncrypt, Count: 17, LastUsed: at},
	}
	found, err := target.Store.Usage(t.Context(), []hsm.UID{a, b})
	if diff := cmp.Diff(want, found, compare...); err != nil || diff != "" {
		t.Errorf("Usage: %v (-want +got):\n%s", err, diff)
	}
	for _, uids := range [][]hsm.UID{nil, {b}} {
		if found, err := target.Store.Usage(t.Context(), uids); err != nil || len(found) != 0 {
			t.Errorf("Usage of %v: %v, %v", uids, found, err)
		}
	}
	if head := load(t, target.Store).Head; head != contents.Head {
		t.Errorf("usage has changed the head from %v to %v", contents.Head, head)
	}
}

// testUsageOfMany is about more versions than one statement takes.
func testUsageOfMany(t *testing.T, target *Target) {
	const many = 1000
	var added []kms.UsageCount
	var uids []hsm.UID
	for i := range many {
		uids = append(uids, randomUID())
		added = append(added, kms.UsageCount{UID: uids[i], Action: kms.ActionEncrypt, Count: uint64(i), LastUsed: sampleTime})
	}
	if err := target.Store.AddUsage(t.Context(), added); err != nil {
		t.Fatalf("AddUsage: %v", err)
	}
	found, err := target.Store.Usage(t.Context(), uids)
	if err != nil || len(found) != many {
		t.Fatalf("Usage of %d versions: %d, %v", many, len(found), err)
	}
	for _, u := range found {
		if i := slices.Index(uids, u.UID); u.Count != uint64(i) {
			t.Errorf("version %d was used %d times", i, u.Count)
		}
	}
}

func testReseal(t *testing.T, target *Target) {
	before := populate(t, target.Store)
	uid := before.Versions[2].UID
	if _, _, err := target.Store.ReserveEncryptions(t.Context(), uid, 5, 100); err != nil {
		t.Fatal(err)
	}
	commit(t, target.Store, &kms.Change{RemoveOrphans: before.Orphans[:1]})
	before = load(t, target.Store)
	head, err := target.Store.Reseal(t.Context(), target.SealKey(t))
	if err != nil || head.Revision != before.Head.Revision+1 {
		t.Fatalf("Reseal: revision %d, %v (%v)", head.Revision, err, errors.Unwrap(err))
	}
	want := resealed(before, head)
	for range 2 {
		if diff := cmp.Diff(want, load(t, target.Store), compare...); diff != "" {
			t.Errorf("after Reseal (-want +got):\n%s", diff)
		}
		target.Reopen(t)
	}
	taken, already, err := target.Store.ReserveEncryptions(t.Context(), uid, 5, 100)
	if err != nil || taken != 5 || already != 5 {
		t.Errorf("ReserveEncryptions after Reseal: %d after %d, %v", taken, already, err)
	}
	want.Keys[0].Labels = nil
	commit(t, target.Store, &kms.Change{Keys: want.Keys[:1]})
	if _, err := target.Store.Reseal(t.Context(), hsm.UID{}); err == nil {
		t.Error("a store was sealed under a key that does not exist")
	}
	load(t, target.Store)
}

// resealed is what there is after a Reseal.
func resealed(c *kms.Contents, head kms.Head) *kms.Contents {
	return stored(&kms.Change{
		Origin: c.Origin, Namespaces: c.Namespaces, Keys: c.Keys, Versions: c.Versions, Orphans: c.Orphans,
		ImportJobs: c.ImportJobs,
	}, head)
}

// testResealSeenByOthers holds that a process that has the store open goes on under the
// new key.
func testResealSeenByOthers(t *testing.T, target *Target) {
	other := target.second(t)
	before := populate(t, target.Store)
	if got := load(t, other); got.Head != before.Head {
		t.Fatalf("another store has the head %v", got.Head)
	}
	key := target.SealKey(t)
	head, err := target.Store.Reseal(t.Context(), key)
	if err != nil {
		t.Fatalf("Reseal: %v", err)
	}
	want := resealed(before, head)
	if diff := cmp.Diff(want, deltaContents(changes(t, other, before.Head.Revision)), compare...); diff != "" {
		t.Errorf("what another store tells after Reseal (-want +got):\n%s", diff)
	}
	commit(t, other, &kms.Change{RemoveOrphans: want.Orphans[:1]})
	load(t, target.Store)
	if head, err = other.Reseal(t.Context(), target.SealKey(t)); err != nil {
		t.Fatalf("Reseal by the other: %v", err)
	}
	if next := commit(t, target.Store, &kms.Change{}); next.Revision != head.Revision+1 {
		t.Errorf("revision %d after %d", next.Revision, head.Revision)
	}
}

func backup(t *testing.T, store kms.Store) ([]byte, kms.Head) {
	t.Helper()
	var b bytes.Buffer
	head, err := store.Backup(t.Context(), &b)
	if err != nil {
		t.Fatalf("Backup: %v", err)
	}
	return b.Bytes(), head
}

func testBackupRoundTrip(t *testing.T, target *Target) {
	check := func() {
		t.Helper()
		contents := load(t, target.Store)
		text, head := backup(t, target.Store)
		got, err := target.Store.ReadBackup(t.Context(), bytes.NewReader(text))
		if err != nil {
			t.Fatalf("ReadBackup: %v", err)
		}
		if diff := cmp.Diff(contents, &got.Contents, compare...); diff != "" || head != contents.Head {
			t.Errorf("the backup of the head %v (-stored +backup):\n%s", head, diff)
		}
		if got.StoreID != target.Store.ID() || got.SealKey == (hsm.UID{}) {
			t.Errorf("a backup of %s under %s", got.StoreID, got.SealKey)
		}
	}
	check() // an empty store
	contents := populate(t, target.Store)
	if _, _, err := target.Store.ReserveEncryptions(t.Context(), contents.Versions[2].UID, 5, 100); err != nil {
		t.Fatal(err)
	}
	commit(t, target.Store, &kms.Change{RemoveOrphans: contents.Orphans[:1]})
	check()
	old, _ := backup(t, target.Store)
	if _, err := target.Store.Reseal(t.Context(), target.SealKey(t)); err != nil {
		t.Fatal(err)
	}
	check()
	if _, err := target.Store.ReadBackup(t.Context(), bytes.NewReader(old)); err != nil {
		t.Errorf("a backup from before Reseal: %v", err)
	}
}

// testBackupDamaged holds that no line can be changed, taken out, put in twice or cut
// off.
func testBackupDamaged(t *testing.T, target *Target) {
	populate(t, target.Store)
	text, _ := backup(t, target.Store)
	refuse := func(what string, damaged []byte, sentinels ...error) {
		t.Helper()
		_, err := target.Store.ReadBackup(t.Context(), bytes.NewReader(damaged))
		if !slices.ContainsFunc(sentinels, func(want error) bool { return errors.Is(err, want) }) {
			t.Errorf("%s: %v", what, err)
		}
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[:len(lines)-1]
	for i, line := range lines {
		n := i + 1
		join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
		before, after := join(lines[:i]...), join(lines[i+1:]...)
		refuse(fmt.Sprintf("without line %d", n), join(before, after), kms.ErrTampered, kms.ErrInvalidRequest)
		refuse(fmt.Sprintf("line %d twice", n), join(before, line, line, after), kms.ErrTampered, kms.ErrInvalidRequest)
		refuse(fmt.Sprintf("cut off before line %d", n), before, kms.ErrInvalidRequest)
		refuse(fmt.Sprintf("cut off within line %d", n), join(before, line[:len(line)/2]), kms.ErrInvalidRequest)
		for _, edit := range [][2]string{
			{`"revision":1`, `"revision":2`}, {"shop", "shoq"}, {"ENABLED", "DISABLED"}, {`"seal":"`, `"seal":"00`},
			{"unix:", "uniz:"}, {"namespace=1", "namespace=2"}, {`"epoch":1`, `"epoch":2`}, {`"taken":0`, `"taken":1`},
		} {
			edited := strings.Replace(string(line), edit[0], edit[1], 1)
			if edited != string(line) {
				refuse(fmt.Sprintf("line %d with %s", n, edit[1]), join(before, []byte(edited), after),
					kms.ErrTampered, kms.ErrInvalidRequest)
			}
		}
	}
	long := slices.Concat(lines[0], []byte(`{"table":"`), bytes.Repeat([]byte("x"), 2<<20))
	for what, damaged := range map[string][]byte{
		"empty": nil, "text": []byte("hello\n"), "other JSON": []byte("{\"format\":\"other\"}\n"),
		"more behind": append(bytes.Clone(text), '\n'), "a long line": long,
		"a later version": bytes.Replace(text, []byte(`"version":1`), []byte(`"version":2`), 1),
	} {
		refuse(what, damaged, kms.ErrInvalidRequest)
	}
	edited := bytes.Replace(text, []byte(`"state":"ENABLED"`), []byte(`"state":"REVOKED"`), 1)
	_, err := target.Store.ReadBackup(t.Context(), bytes.NewReader(edited))
	if err == nil || !strings.Contains(err.Error(), "namespaces/shop/keys/") {
		t.Errorf("an edited row is not named: %v", err)
	}
}
