package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// tally counts what became of ciphertexts, and under which version each is now.
type tally struct {
	what string // ciphertext, file

	rewrapped, unchanged, failed int
	other                        int    // files that are not encrypted
	elsewhere                    uint64 // names of files that were replaced, which stand for the old files
	last                         error

	under    map[uid]int
	versions map[uid]*kms.VersionInfo // that are known
}

func newTally(what string) *tally {
	return &tally{what: what, under: make(map[uid]int), versions: make(map[uid]*kms.VersionInfo)}
}

// add counts a ciphertext that was dealt with; of a failure it tells where.
func (t *tally) add(a *app, c *ciphertext, where func() string) {
	switch {
	case c.err != nil:
		t.fail(a, where(), c.err)
	case c.changed():
		t.rewrapped++
	default:
		t.unchanged++
	}
	t.count(c.out)
}

func (t *tally) fail(a *app, where string, err error) {
	t.failed++
	t.last = err
	var reason string
	if wire.Advice(err) != "" {
		reason = " (" + wire.Reason(err) + ")"
	}
	a.sayf("kmsctl: %s: %v%s", where, statusText(err), reason)
}

// count counts under which version a ciphertext is; one that is malformed is under none.
func (t *tally) count(blob []byte) {
	if c := newCiphertext(blob, nil); c.err == nil {
		t.under[c.parsed.UID]++
	}
}

// listings is how many keys' versions are asked for at once.
const listings = 8

// resolve finds out which versions the UIDs of the tally are: those of the keys that the
// answers have named, or of the key that was asked for; what is left, among all keys of
// the namespace.
func (r *rewrapper) resolve(ctx context.Context, t *tally) error {
	keys := make(map[kms.KeyName]bool)
	for u, name := range r.names {
		keys[name.Key()] = true
		if _, counted := t.under[u]; counted {
			t.versions[u] = &kms.VersionInfo{Version: kms.Version{Name: name}, Primary: r.current[name.Key()].uid == u}
		}
	}
	if !r.key.IsZero() {
		keys[r.key] = true
	}
	for key := range keys {
		versions, err := r.versionsOf(ctx, key)
		if err != nil {
			return err
		}
		t.note(versions)
	}
	if t.resolved() || !r.key.IsZero() {
		return nil
	}
	return r.resolveAmongAll(ctx, t)
}

// resolveAmongAll looks through the keys of the namespace until every UID is known.
func (r *rewrapper) resolveAmongAll(ctx context.Context, t *tally) error {
	all, err := pages(func(token string) ([]*kms.KeyInfo, string, error) {
		list, err := r.api.ListKeys(ctx, kms.Principal{}, r.parent, kms.Page{Size: pageSize, Token: token})
		if err != nil {
			return nil, "", err
		}
		return list.Keys, list.NextToken, nil
	})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(all, listings) {
		found := make([][]*kms.VersionInfo, len(some))
		group, ctx := errgroup.WithContext(ctx)
		for i, key := range some {
			group.Go(func() (err error) {
				found[i], err = r.versionsOf(ctx, key.Name)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for _, versions := range found {
			t.note(versions)
		}
		if t.resolved() {
			return nil
		}
	}
	return nil
}

func (r *rewrapper) versionsOf(ctx context.Context, key kms.KeyName) ([]*kms.VersionInfo, error) {
	return pages(func(token string) ([]*kms.VersionInfo, string, error) {
		list, err := r.api.ListKeyVersions(ctx, kms.Principal{}, key, kms.Page{Size: pageSize, Token: token})
		if err != nil {
			return nil, "", err
		}
		return list.Versions, list.NextToken, nil
	})
}

func (t *tally) note(versions []*kms.VersionInfo) {
	for _, v := range versions {
		if _, counted := t.under[uid(v.UID)]; counted {
			t.versions[uid(v.UID)] = v
		}
	}
}

func (t *tally) resolved() bool {
	for u := range t.under {
		if t.versions[u] == nil {
			return false
		}
	}
	return true
}

// tallyRecord is the result in structured output.
type tallyRecord struct {
	Rewrapped    int             `json:"rewrapped" yaml:"rewrapped"`
	Unchanged    int             `json:"unchanged" yaml:"unchanged"`
	Failed       int             `json:"failed" yaml:"failed"`
	NotEncrypted int             `json:"not_encrypted" yaml:"not_encrypted"`
	Older        int             `json:"older" yaml:"older"`
	Versions     []versionRecord `json:"versions" yaml:"versions"`
}

type versionRecord struct {
	KeyVersion string `json:"key_version" yaml:"key_version"`
	UID        string `json:"uid" yaml:"uid"`
	State      string `json:"state" yaml:"state"`
	Primary    bool   `json:"primary" yaml:"primary"`
	Count      int    `json:"count" yaml:"count"`
}

func (t *tally) record() tallyRecord {
	record := tallyRecord{
		Rewrapped: t.rewrapped, Unchanged: t.unchanged, Failed: t.failed, NotEncrypted: t.other,
		Older: t.older(), Versions: []versionRecord{},
	}
	for u, n := range t.under {
		v := versionRecord{UID: u.String(), Count: n}
		if info := t.versions[u]; info != nil {
			v.KeyVersion, v.Primary = info.Name.String(), info.Primary
			if info.State != 0 {
				v.State = info.State.String()
			}
		}
		record.Versions = append(record.Versions, v)
	}
	slices.SortFunc(record.Versions, func(a, b versionRecord) int {
		x, y := t.numbered(a), t.numbered(b)
		return cmp.Or(cmp.Compare(x.Key().String(), y.Key().String()), cmp.Compare(x.Number(), y.Number()), cmp.Compare(a.UID, b.UID))
	})
	return record
}

// numbered is the name of a version for sorting: versions by number, not by text.
func (t *tally) numbered(v versionRecord) kms.VersionName {
	name, err := kms.ParseVersionName(v.KeyVersion)
	if err != nil {
		return kms.VersionName{} // of a UID that is not known
	}
	return name
}

// older counts what is under a version that is not known to be its key's primary.
func (t *tally) older() int {
	older := 0
	for u, n := range t.under {
		if info := t.versions[u]; info == nil || !info.Primary {
			older += n
		}
	}
	return older
}

// show writes the result to standard output, or, if that has data, to standard error.
func (t *tally) show(a *app, toStdout bool) error {
	record := t.record()
	if toStdout && a.structured() {
		return a.encode(record)
	}
	text := listTable(record.Versions, versionCountRow, a.output == formatWide).Render()
	if toStdout && text != "" {
		if _, err := fmt.Fprintln(a.stdout, text); err != nil {
			return err
		}
	} else if text != "" {
		_, _ = fmt.Fprintln(a.stderr, text) // its cells are printable already
	}
	return nil
}

func versionCountRow(v versionRecord) []column {
	name := v.KeyVersion
	if name == "" {
		name = "unknown in this namespace"
	}
	primary := ""
	if v.Primary {
		primary = "yes"
	}
	return []column{
		{name: "key version", value: name},
		{name: "state", value: v.State},
		{name: "primary", value: primary},
		{name: "uid", value: v.UID, detail: v.KeyVersion != ""},
		{name: "count", value: strconv.Itoa(v.Count)},
	}
}

// verdict says what was done, and fails if that is not all that there was to do.
func (t *tally) verdict(counting bool) error {
	if counting {
		return &itemsError{kms.Counted(t.failed, t.what) + " cannot be read", t.last}
	}
	if t.failed > 0 {
		return &itemsError{fmt.Sprintf("%d of %s failed; under an older version: %d",
			t.failed, kms.Counted(t.failed+t.rewrapped+t.unchanged, t.what), t.older()), t.last}
	}
	if older := t.older(); older > 0 {
		return &advisedError{
			fmt.Errorf("under an older version: %s; a key was rotated meanwhile, or an earlier run had failures", kms.Counted(older, t.what)),
			"repeat the command with what came out.",
		}
	}
	if t.elsewhere > 0 {
		return &advisedError{
			fmt.Errorf("outside of the paths, of files under an older version: %s (hard links)", kms.Counted(t.elsewhere, "name")),
			"rewrap them too: find them by their inode, or give a directory that holds them all.",
		}
	}
	return nil
}
