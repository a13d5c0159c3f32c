package kms

import (
	"github.com/tidwall/btree"

	"github.com/keyholt/keyholt/hsm"
)

// Snapshot is the metadata at one revision, in memory. It never changes: applying a
// change makes another one that shares all but the changed paths (copy-on-write
// B-trees), so a request that holds a Snapshot sees one consistent state and two
// requests can tell by comparing pointers whether anything changed between them.
type Snapshot struct {
	revision   Revision
	namespaces *btree.Map[string, *Namespace]    // by id
	keys       *btree.Map[string, *keyEntry]     // by keyIndex
	versions   *btree.Map[string, *versionEntry] // by the 16 bytes of the UID
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
	profile Profile
	live    *liveKey
}

func newSnapshot() *Snapshot {
	return &Snapshot{
		namespaces: new(btree.Map[string, *Namespace]),
		keys:       new(btree.Map[string, *keyEntry]),
		versions:   new(btree.Map[string, *versionEntry]),
	}
}

// snapshotOf builds a Snapshot of everything in the store. Live parts of versions that
// were known before are carried over from old, which may be nil.
func snapshotOf(contents *Contents, old *Snapshot) *Snapshot {
	s := newSnapshot()
	s.revision = contents.Revision
	for _, n := range contents.Namespaces {
		s.namespaces.Set(n.Name.ID(), n)
	}
	for _, k := range contents.Keys {
		s.keys.Set(keyIndex(k.Name), &keyEntry{Key: k})
	}
	for _, v := range contents.Versions {
		s.putVersion(v, old)
	}
	return s
}

// apply returns the Snapshot after a change that was committed at revision r.
func (s *Snapshot) apply(change *Change, r Revision) *Snapshot {
	next := &Snapshot{
		revision:   r,
		namespaces: s.namespaces.Copy(),
		keys:       s.keys.Copy(),
		versions:   s.versions.Copy(),
	}
	for _, n := range change.Namespaces {
		c := *n
		c.Revision = r
		next.namespaces.Set(n.Name.ID(), &c)
	}
	for _, k := range change.Keys {
		c := k.Clone()
		c.Revision = r
		entry := &keyEntry{Key: c}
		if was, ok := s.keys.Get(keyIndex(k.Name)); ok {
			entry.versions = was.versions
		}
		next.keys.Set(keyIndex(k.Name), entry)
	}
	for _, v := range change.Versions {
		c := *v
		c.Revision = r
		next.putVersion(&c, s)
	}
	for _, v := range change.RemoveVersions {
		next.removeVersion(v)
	}
	for _, k := range change.RemoveKeys {
		next.keys.Delete(keyIndex(k.Name))
	}
	return next
}

// putVersion enters a version whose key is entered already.
func (s *Snapshot) putVersion(v *Version, old *Snapshot) {
	key, ok := s.keys.Get(keyIndex(v.Name.Key()))
	if !ok {
		return // the store refuses such a row
	}
	entry := &versionEntry{Version: v, profile: key.Profile}
	if old != nil {
		if was, ok := old.versions.Get(string(v.UID[:])); ok {
			entry.live = was.live
		}
	}
	if entry.live == nil {
		entry.live = new(liveKey)
	}
	if !v.FirstUse.IsZero() {
		entry.live.used.Store(true)
	}
	entry.live.setUsable(v.State.usable())
	s.versions.Set(string(v.UID[:]), entry)

	n := int(v.Name.Number())
	versions := make([]*versionEntry, max(n, len(key.versions)))
	copy(versions, key.versions)
	versions[n-1] = entry
	s.keys.Set(keyIndex(v.Name.Key()), &keyEntry{Key: key.Key, versions: versions})
}

// removeVersion takes out a version that was never confirmed: always the last.
func (s *Snapshot) removeVersion(v *Version) {
	s.versions.Delete(string(v.UID[:]))
	key, ok := s.keys.Get(keyIndex(v.Name.Key()))
	if !ok || len(key.versions) != int(v.Name.Number()) {
		return
	}
	s.keys.Set(keyIndex(v.Name.Key()), &keyEntry{Key: key.Key, versions: key.versions[:len(key.versions)-1]})
}

// Revision is the revision that the snapshot shows.
func (s *Snapshot) Revision() Revision { return s.revision }

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
