package keystore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// Load reads everything in one transaction and verifies each row's seal, that the rows
// belong together, and the head's seal (see the package comment). Times have
// microseconds and are UTC; labels, check values and digests that are empty are nil. A
// store that is older than what this Store has seen of it is kms.ErrStoreWentBack.
func (s *Store) Load(ctx context.Context) (*kms.Contents, error) {
	l, err := s.readStore(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &l.contents, nil
}

// readStore reads everything in a transaction of its own. keep, if there is one, is
// given each row that was verified.
func (s *Store) readStore(ctx context.Context, keep func(*table, *record) error) (*loader, error) {
	var l *loader
	known := s.index.position() // before the transaction, which will see at least that
	err := s.transact(ctx, s.database.dialect.readOptions, cannotRead, func(tx *sql.Tx) error {
		stored, err := readHead(ctx, tx, "")
		if err != nil {
			return err
		}
		ring, err := s.ring(ctx, stored.keyID)
		if err != nil {
			return err
		}
		if l, err = readAll(ctx, tx, ring, s.database.id, stored, keep); err != nil {
			return err
		}
		switch {
		case stored.revision < known.Revision:
			return wentBack(stored.revision, known.Revision)
		case s.index.contradicts(l.set):
			return otherHistory(stored.revision)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.index.replace(l.set)
	return l, nil
}

// readAll reads and verifies everything that the transaction sees.
func readAll(ctx context.Context, tx *sql.Tx, ring *ring, storeID string, stored *headRow,
	keep func(*table, *record) error,
) (*loader, error) {
	l := newLoader(ring, storeID, stored)
	for _, t := range sealedTables {
		err := forEach(ctx, tx, t, func(r *record) error {
			if err := l.add(t, r); err != nil || keep == nil {
				return err
			}
			return keep(t, r)
		}, t.read)
		if err != nil {
			return nil, err
		}
	}
	return l, l.finish()
}

// loader verifies one state of a store, row by row: each row after those that it refers
// to, and finish after the last. Texts that stand in many rows are kept once.
type loader struct {
	verifier   *verifier
	storeID    string
	head       *headRow
	set        *set
	contents   kms.Contents
	removals   []*record
	namespaces map[string]*kms.Namespace
	keys       map[keyID]*kms.Key
	strict     map[hsm.UID]*kms.Version // STRICT versions whose counter was not met yet
	uids       map[hsm.UID]kms.VersionName
	texts      map[string]string
	attributes map[string]kms.ObjectAttributes // by their text
}

// keyID names a key as the columns of its row do.
type keyID struct{ namespace, key string }

func newLoader(ring *ring, storeID string, head *headRow) *loader {
	return &loader{
		verifier:   newVerifier(ring),
		storeID:    storeID,
		head:       head,
		set:        newSet(ring.keyID),
		namespaces: make(map[string]*kms.Namespace),
		keys:       make(map[keyID]*kms.Key),
		strict:     make(map[hsm.UID]*kms.Version),
		uids:       make(map[hsm.UID]kms.VersionName),
		texts:      make(map[string]string),
		attributes: make(map[string]kms.ObjectAttributes),
	}
}

// add verifies a row and takes it in.
func (l *loader) add(t *table, r *record) error {
	e, err := l.verifier.verify(t, r)
	if err != nil {
		return err
	}
	if err := revisionWithin(t, r, l.head.revision); err != nil {
		return err
	}
	if !l.set.insert(t, idOf(t, r.fixed), e) {
		return tampered(t.resource(r.fixed), "there are two rows of it")
	}
	switch t {
	case originTable:
		l.contents.Origin, err = readOrigin(r)
	case namespaceTable:
		err = l.addNamespace(r)
	case keyTable:
		err = l.addKey(r)
	case versionTable:
		err = l.addVersion(r)
	case reservationTable:
		err = l.addReservation(r)
	case orphanTable:
		err = appendRow(&l.contents.Orphans, r, readOrphan)
	case importJobTable:
		if l.namespaces[columnText(r.fixed[0])] == nil {
			err = errors.New("the row of its namespace is missing")
		} else {
			err = appendRow(&l.contents.ImportJobs, r, readImportJob)
		}
	case removalTable:
		_, err = readRemoval(r)
		l.removals = append(l.removals, r)
	}
	if err != nil {
		return tampered(t.resource(r.fixed), "%v", err)
	}
	return nil
}

// finish checks what shows only when all rows are known, and that the head seals them.
func (l *loader) finish() error {
	for _, version := range l.strict {
		return tampered(version.Name.String(), "its encryption counter is missing")
	}
	if err := l.checkNumbers(); err != nil {
		return err
	}
	if !l.head.matches(l.verifier.ring, l.storeID, &l.set.counts, &l.set.sum) {
		return l.head.misfit(&l.set.counts)
	}
	l.set.head = l.head.head()
	l.contents.Head = l.set.head
	return nil
}

// checkNumbers checks that each key has its primary version, and versions 1 to n without
// a gap: a version is stored with its key or after the ones before, and only the last is
// ever removed again, with its key if it is the first.
func (l *loader) checkNumbers() error {
	count := make(map[kms.KeyName]uint32, len(l.contents.Keys))
	for _, version := range l.contents.Versions {
		count[version.Name.Key()]++
	}
	for _, key := range l.contents.Keys {
		if key.Primary != 0 && !l.holds(key.Name.Version(key.Primary)) {
			return tampered(key.Name.Version(key.Primary).String(), "the primary version of the key is missing")
		}
		for n := uint32(1); n <= max(1, count[key.Name]); n++ {
			if name := key.Name.Version(n); !l.holds(name) {
				return tampered(name.String(), "the key has %d versions, but not this one", count[key.Name])
			}
		}
	}
	return nil
}

func (l *loader) holds(v kms.VersionName) bool {
	key := v.Key()
	_, ok := l.set.rows[idOf(versionTable, []any{key.Namespace().ID(), key.ID(), int64(v.Number())})]
	return ok
}

func (l *loader) addNamespace(r *record) error {
	n, err := readNamespace(r)
	if err != nil {
		return err
	}
	n.CreatedBy = l.shared(n.CreatedBy)
	l.namespaces[n.Name.ID()] = n
	l.contents.Namespaces = append(l.contents.Namespaces, n)
	return nil
}

func (l *loader) addKey(r *record) error {
	namespace := l.namespaces[columnText(r.fixed[0])]
	if namespace == nil {
		return errors.New("the row of its namespace is missing")
	}
	k, err := readKeyOf(namespace.Name, r)
	if err != nil {
		return err
	}
	k.CreatedBy = l.shared(k.CreatedBy)
	l.keys[keyID{namespace.Name.ID(), k.Name.ID()}] = k
	l.contents.Keys = append(l.contents.Keys, k)
	return nil
}

func (l *loader) addVersion(r *record) error {
	key := l.keys[keyID{columnText(r.fixed[0]), columnText(r.fixed[1])}]
	if key == nil {
		return errors.New("the row of its key is missing")
	}
	v, err := readVersionOf(key.Name, r, l.attributes)
	if err != nil {
		return err
	}
	if other, ok := l.uids[v.UID]; ok {
		return errors.New("it has the same UID as " + other.String())
	}
	l.uids[v.UID] = v.Name
	if key.Profile == kms.ProfileStrict {
		l.strict[v.UID] = v
	}
	v.StatePrincipal, v.StateReason = l.shared(v.StatePrincipal), l.shared(v.StateReason)
	l.contents.Versions = append(l.contents.Versions, v)
	return nil
}

// addReservation checks that the row is the counter of a STRICT version. Its value is
// no part of what is loaded.
func (l *loader) addReservation(r *record) error {
	if _, err := readReservation(r); err != nil {
		return err
	}
	uid, err := parseUID(columnText(r.fixed[0]))
	if err != nil {
		return err
	}
	if l.strict[uid] == nil {
		return errors.New("there is no STRICT version with this UID")
	}
	delete(l.strict, uid)
	return nil
}

// shared returns a string equal to s, the same one for equal strings.
func (l *loader) shared(s string) string {
	if kept, ok := l.texts[s]; ok {
		return kept
	}
	l.texts[s] = s
	return s
}

// since returns what of the contents has changed since a revision.
func (l *loader) since(revision kms.Revision) *kms.Delta {
	c := &l.contents
	d := &kms.Delta{
		Head:       c.Head,
		Namespaces: later(c.Namespaces, revision, func(n *kms.Namespace) kms.Revision { return n.Revision }),
		Keys:       later(c.Keys, revision, func(k *kms.Key) kms.Revision { return k.Revision }),
		Versions:   later(c.Versions, revision, func(v *kms.Version) kms.Revision { return v.Revision }),
		Orphans:    later(c.Orphans, revision, func(o *kms.Orphan) kms.Revision { return o.Revision }),
		ImportJobs: later(c.ImportJobs, revision, func(j *kms.ImportJob) kms.Revision { return j.Revision }),
	}
	if c.Origin != nil && c.Origin.Revision > revision {
		d.Origin = c.Origin
	}
	for _, r := range l.removals {
		removed, err := readRemoval(r)
		if err != nil || r.revision <= revision {
			continue // add has read it without an error
		}
		if _, again := l.set.rows[idOf(removed.table, removed.naming)]; !again {
			removed.addTo(d)
		}
	}
	return d
}

func later[T any](rows []*T, since kms.Revision, revision func(*T) kms.Revision) (changed []*T) {
	for _, row := range rows {
		if revision(row) > since {
			changed = append(changed, row)
		}
	}
	return changed
}
