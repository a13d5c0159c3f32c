package keystoretest

import (
	"maps"
	"slices"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// mirror is what somebody knows of a store who only applies changes.
type mirror struct {
	head       kms.Head
	origin     *kms.Origin
	namespaces map[kms.NamespaceName]*kms.Namespace
	keys       map[kms.KeyName]*kms.Key
	versions   map[kms.VersionName]*kms.Version
	orphans    map[hsm.UID]*kms.Orphan
	importJobs map[kms.ImportJobName]*kms.ImportJob
}

func newMirror() *mirror {
	return &mirror{
		namespaces: make(map[kms.NamespaceName]*kms.Namespace),
		keys:       make(map[kms.KeyName]*kms.Key),
		versions:   make(map[kms.VersionName]*kms.Version),
		orphans:    make(map[hsm.UID]*kms.Orphan),
		importJobs: make(map[kms.ImportJobName]*kms.ImportJob),
	}
}

// apply takes in a delta: first what is gone, then what is there.
func (m *mirror) apply(d *kms.Delta) {
	m.head = d.Head
	for _, name := range d.RemovedVersions {
		delete(m.versions, name)
	}
	for _, name := range d.RemovedKeys {
		delete(m.keys, name)
	}
	for _, uid := range d.RemovedOrphans {
		delete(m.orphans, uid)
	}
	for _, name := range d.RemovedImportJobs {
		delete(m.importJobs, name)
	}
	if d.Origin != nil {
		m.origin = d.Origin
	}
	m.put(d.Namespaces, d.Keys, d.Versions, d.Orphans, d.ImportJobs)
}

// commit takes in a change that was made, with the head that it has led to.
func (m *mirror) commit(c *kms.Change, head kms.Head) {
	for _, v := range c.RemoveVersions {
		delete(m.versions, v.Name)
	}
	for _, k := range c.RemoveKeys {
		delete(m.keys, k.Name)
	}
	for _, o := range c.RemoveOrphans {
		delete(m.orphans, o.UID)
	}
	for _, j := range c.RemoveImportJobs {
		delete(m.importJobs, j.Name)
	}
	made := stored(c, head)
	if made.Origin != nil {
		m.origin = made.Origin
	}
	m.put(made.Namespaces, made.Keys, made.Versions, made.Orphans, made.ImportJobs)
	m.head = head
}

func (m *mirror) put(namespaces []*kms.Namespace, keys []*kms.Key, versions []*kms.Version, orphans []*kms.Orphan,
	importJobs []*kms.ImportJob,
) {
	for _, j := range importJobs {
		m.importJobs[j.Name] = j
	}
	for _, n := range namespaces {
		m.namespaces[n.Name] = n
	}
	for _, k := range keys {
		m.keys[k.Name] = k
	}
	for _, v := range versions {
		m.versions[v.Name] = v
	}
	for _, o := range orphans {
		m.orphans[o.UID] = o
	}
}

// contents returns all that is known, as Load would.
func (m *mirror) contents() *kms.Contents {
	return &kms.Contents{
		Head:       m.head,
		Origin:     m.origin,
		Namespaces: slices.Collect(maps.Values(m.namespaces)),
		Keys:       slices.Collect(maps.Values(m.keys)),
		Versions:   slices.Collect(maps.Values(m.versions)),
		Orphans:    slices.Collect(maps.Values(m.orphans)),
		ImportJobs: slices.Collect(maps.Values(m.importJobs)),
	}
}
