package kms

import (
	"sync/atomic"

	"github.com/tidwall/btree"

	"github.com/keyholt/keyholt/hsm"
)

// Snapshot is the metadata at one revision, in memory. It never changes: applying a
// change makes another one that shares all but the changed paths (copy-on-write
// B-trees), so a request that holds a Snapshot sees one consistent state and two
// requests can tell by comparing pointers whether anything changed between them.
type Snapshot struct {
	head       Head
	origin     *Origin                           // nil: nothing was ever restored or rolled back
	namespaces *btree.Map[string, *Namespace]    // by id
	keys       *btree.Map[string, *keyEntry]     // by keyIndex
	versions   *btree.Map[string, *versionEntry] // by the 16 bytes of the UID
	orphans    *btree.Map[string, *Orphan]       // by the 16 bytes of the UID

	importJobs   *btree.Map[string, *ImportJob] // by jobIndex
	wrappingKeys *btree.Map[string, *ImportJob] // the same by the 16 bytes of the UID

	// handing counts the results that passed their final check under this snapshot and
	// are not handed over yet (release.go).
	handing atomic.Int64
}

// keyEntry is a key with its versions; versions[i] has number i+1.
type keyEntry struct {
	*Key
	versions []*versionEntry
}

// versionEntry is a version with what the process knows of its token object. The live
// part is shared by all snapshots.
type versionEntry struct {
	*Version
	algorithm Algorithm // of its key, as is
	profile   Profile
	live      *liveKey
}

// keySpec is what token object the version is.
func (v *versionEntry) keySpec() hsm.KeySpec { return v.algorithm.KeySpec(v.profile) }

// usable reports whether the state of the version lets its token object be used.
func (v *versionEntry) usable() bool { return v.State.usable(v.algorithm.Purpose()) }

func newSnapshot() *Snapshot {
	return &Snapshot{
		namespaces: new(btree.Map[string, *Namespace]),
		keys:       new(btree.Map[string, *keyEntry]),
		versions:   new(btree.Map[string, *versionEntry]),
		orphans:    new(btree.Map[string, *Orphan]),

		importJobs:   new(btree.Map[string, *ImportJob]),
		wrappingKeys: new(btree.Map[string, *ImportJob]),
	}
}

// snapshotOf builds a Snapshot of everything in the store. Live parts of versions that
// were known before are carried over from old, which may be nil.
func snapshotOf(contents *Contents, old *Snapshot) *Snapshot {
	s := newSnapshot()
	s.head, s.origin = contents.Head, contents.Origin
	for _, n := range contents.Namespaces {
		s.namespaces.Set(n.Name.ID(), n)
	}
	for _, k := range contents.Keys {
		s.keys.Set(keyIndex(k.Name), &keyEntry{Key: k})
	}
	for _, v := range contents.Versions {
		s.putVersion(v, old)
	}
	for _, o := range contents.Orphans {
		s.orphans.Set(string(o.UID[:]), o)
	}
	for _, j := range contents.ImportJobs {
		s.putImportJob(j)
	}
	return s
}

// apply returns the Snapshot after what a delta tells; s itself if it tells nothing.
func (s *Snapshot) apply(delta *Delta) *Snapshot {
	if delta == nil || delta.Head == s.head {
		return s
	}
	next := &Snapshot{
		head:       delta.Head,
		origin:     s.origin,
		namespaces: s.namespaces.Copy(),
		keys:       s.keys.Copy(),
		versions:   s.versions.Copy(),
		orphans:    s.orphans.Copy(),

		importJobs:   s.importJobs.Copy(),
		wrappingKeys: s.wrappingKeys.Copy(),
	}
	if delta.Origin != nil {
		next.origin = delta.Origin
	}
	// What was removed and made again since is in both lists.
	for _, name := range delta.RemovedVersions {
		next.removeVersion(name)
	}
	for _, name := range delta.RemovedKeys {
		next.keys.Delete(keyIndex(name))
	}
	for _, uid := range delta.RemovedOrphans {
		next.orphans.Delete(string(uid[:]))
	}
	for _, name := range delta.RemovedImportJobs {
		next.removeImportJob(name)
	}
	for _, n := range delta.Namespaces {
		next.namespaces.Set(n.Name.ID(), n)
	}
	for _, k := range delta.Keys {
		entry := &keyEntry{Key: k}
		if was, ok := next.keys.Get(keyIndex(k.Name)); ok {
			entry.versions = was.versions
		}
		next.keys.Set(keyIndex(k.Name), entry)
	}
	for _, v := range delta.Versions {
		next.putVersion(v, s)
	}
	for _, o := range delta.Orphans {
		next.orphans.Set(string(o.UID[:]), o)
	}
	for _, j := range delta.ImportJobs {
		next.removeImportJob(j.Name) // removed and made again it has another UID
		next.putImportJob(j)
	}
	return next
}

// delta is what a change means that was committed with the given head.
func (c *Change) delta(head Head) *Delta {
	d := &Delta{Head: head}
	if c.Origin != nil {
		origin := *c.Origin
		origin.Revision = head.Revision
		d.Origin = &origin
	}
	for _, n := range c.Namespaces {
		row := *n
		row.Revision = head.Revision
		d.Namespaces = append(d.Namespaces, &row)
	}
	for _, k := range c.Keys {
		row := k.Clone()
		row.Revision = head.Revision
		d.Keys = append(d.Keys, row)
	}
	for _, v := range c.Versions {
		row := *v
		row.Revision = head.Revision
		d.Versions = append(d.Versions, &row)
	}
	for _, o := range c.Orphans {
		row := *o
		row.Revision = head.Revision
		d.Orphans = append(d.Orphans, &row)
	}
	for _, j := range c.ImportJobs {
		row := *j
		row.Revision = head.Revision
		d.ImportJobs = append(d.ImportJobs, &row)
	}
	for _, k := range c.RemoveKeys {
		d.RemovedKeys = append(d.RemovedKeys, k.Name)
	}
	for _, v := range c.RemoveVersions {
		d.RemovedVersions = append(d.RemovedVersions, v.Name)
	}
	for _, o := range c.RemoveOrphans {
		d.RemovedOrphans = append(d.RemovedOrphans, o.UID)
	}
	for _, j := range c.RemoveImportJobs {
		d.RemovedImportJobs = append(d.RemovedImportJobs, j.Name)
	}
	return d
}

// putVersion enters a version whose key is entered already.
func (s *Snapshot) putVersion(v *Version, old *Snapshot) {
	key, ok := s.keys.Get(keyIndex(v.Name.Key()))
	if !ok {
		return // the store refuses such a row
	}
	entry := &versionEntry{Version: v, algorithm: key.Algorithm, profile: key.Profile}
	if old != nil {
		if was, ok := old.versions.Get(string(v.UID[:])); ok {
			entry.live = was.live
			if v.State == StateEnabled && !v.StateTime.Equal(was.StateTime) {
				entry.live.recover() // an operator has enabled it since it was found unusable
			}
			if !entry.usable() {
				entry.live.rest()
			}
		}
	}
	if entry.live == nil {
		entry.live = new(liveKey)
	}
	if !v.FirstUse.IsZero() {
		entry.live.used.Store(true)
	}
	entry.live.setUsable(entry.usable())
	s.versions.Set(string(v.UID[:]), entry)

	n := int(v.Name.Number())
	versions := make([]*versionEntry, max(n, len(key.versions)))
	copy(versions, key.versions)
	versions[n-1] = entry
	s.keys.Set(keyIndex(v.Name.Key()), &keyEntry{Key: key.Key, versions: versions})
}

// removeVersion takes out a version that was never confirmed, always the last of its
// key, if the snapshot has it.
func (s *Snapshot) removeVersion(name VersionName) {
	key := s.key(name.Key())
	if key == nil || len(key.versions) != int(name.Number()) {
		return
	}
	last := len(key.versions) - 1
	uid := key.versions[last].UID
	s.versions.Delete(string(uid[:]))
	s.keys.Set(keyIndex(name.Key()), &keyEntry{Key: key.Key, versions: key.versions[:last]})
}

// Revision is the revision that the snapshot shows.
func (s *Snapshot) Revision() Revision { return s.head.Revision }

func (s *Snapshot) namespace(name NamespaceName) *Namespace {
	n, _ := s.namespaces.Get(name.ID())
	return n
}

func (s *Snapshot) key(name KeyName) *keyEntry {
	k, _ := s.keys.Get(keyIndex(name))
	return k
}

// version returns nil unless the key has a version of that number.
func (s *Snapshot) version(name VersionName) *versionEntry {
	key := s.key(name.Key())
	if key == nil || int(name.Number()) > len(key.versions) {
		return nil
	}
	return key.versions[name.Number()-1]
}

func (s *Snapshot) versionByUID(uid hsm.UID) *versionEntry {
	v, _ := s.versions.Get(string(uid[:]))
	return v
}

// primary returns the primary version, nil while there is none.
func (k *keyEntry) primary() *versionEntry {
	if k.Primary == 0 || int(k.Primary) > len(k.versions) {
		return nil
	}
	return k.versions[k.Primary-1]
}

// keyIndex orders keys by namespace, then by key: 0 sorts before every character of a name.
func keyIndex(name KeyName) string { return name.Namespace().ID() + "\x00" + name.ID() }
