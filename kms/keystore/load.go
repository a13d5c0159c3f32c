package keystore

import (
	"context"
	"database/sql"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// Load reads everything in one transaction and verifies each row's seal, and that the
// rows belong together (see the package comment). Times have microseconds and are UTC;
// labels, check values and digests that are empty are nil.
func (s *Store) Load(ctx context.Context) (*kms.Contents, error) {
	var l *loader
	err := s.transact(ctx, &sql.TxOptions{ReadOnly: true}, "the metadata store cannot be read", func(tx *sql.Tx) error {
		l = newLoader(s.sealer)
		return l.load(ctx, tx)
	})
	if err != nil {
		return nil, err
	}
	return &l.contents, nil
}

// loader reads one state of the store. Texts that stand in many rows are kept once.
type loader struct {
	verifier   *verifier
	contents   kms.Contents
	namespaces map[string]*kms.Namespace
	keys       map[keyID]*kms.Key
	versions   map[kms.VersionName]bool
	strict     map[hsm.UID]*kms.Version // STRICT versions whose counter was not met yet
	uids       map[hsm.UID]kms.VersionName
	texts      map[string]string
}

// keyID names a key as the columns of its row do.
type keyID struct{ namespace, key string }

func newLoader(sealer Sealer) *loader {
	return &loader{
		verifier:   newVerifier(sealer),
		namespaces: make(map[string]*kms.Namespace),
		keys:       make(map[keyID]*kms.Key),
		versions:   make(map[kms.VersionName]bool),
		strict:     make(map[hsm.UID]*kms.Version),
		uids:       make(map[hsm.UID]kms.VersionName),
		texts:      make(map[string]string),
	}
}

func (l *loader) load(ctx context.Context, tx *sql.Tx) (err error) {
	if l.contents.Revision, err = readRevision(ctx, tx); err != nil {
		return err
	}
	// A row is met after those that it refers to.
	steps := []struct {
		table *table
		add   func(*record) error
	}{
		{namespaceTable, l.addNamespace},
		{keyTable, l.addKey},
		{versionTable, l.addVersion},
		{reservationTable, l.addReservation},
	}
	for _, step := range steps {
		if err := l.readTable(ctx, tx, step.table, step.add); err != nil {
			return err
		}
	}
	for _, version := range l.strict {
		return tampered(version.Name.String(), "its encryption counter is missing")
	}
	return l.checkNumbers()
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
		if key.Primary != 0 && !l.versions[key.Name.Version(key.Primary)] {
			return tampered(key.Name.Version(key.Primary).String(), "the primary version of the key is missing")
		}
		for n := uint32(1); n <= max(1, count[key.Name]); n++ {
			if name := key.Name.Version(n); !l.versions[name] {
				return tampered(name.String(), "the key has %d versions, but not this one", count[key.Name])
			}
		}
	}
	return nil
}

// readTable verifies each row of a table and adds it.
func (l *loader) readTable(ctx context.Context, tx *sql.Tx, t *table, add func(*record) error) error {
	rows, err := tx.QueryContext(ctx, t.read)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		r, err := t.scan(rows)
		if err != nil {
			return err
		}
		if err := l.verifier.verify(t, r); err != nil {
			return err
		}
		if err := add(r); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (l *loader) addNamespace(r *record) error {
	name := namespaceTable.resource(r.fixed)
	if err := revisionWithin(namespaceTable, r, l.contents.Revision); err != nil {
		return err
	}
	n, err := readNamespace(r)
	if err != nil {
		return tampered(name, "%v", err)
	}
	if l.namespaces[n.Name.ID()] != nil {
		return tampered(name, "there are two rows of it")
	}
	n.CreatedBy = l.shared(n.CreatedBy)
	l.namespaces[n.Name.ID()] = n
	l.contents.Namespaces = append(l.contents.Namespaces, n)
	return nil
}

func (l *loader) addKey(r *record) error {
	name := keyTable.resource(r.fixed)
	if err := revisionWithin(keyTable, r, l.contents.Revision); err != nil {
		return err
	}
	namespace := l.namespaces[columnText(r.fixed[0])]
	if namespace == nil {
		return tampered(name, "the row of its namespace is missing")
	}
	k, err := readKey(namespace.Name, r)
	if err != nil {
		return tampered(name, "%v", err)
	}
	id := keyID{namespace.Name.ID(), k.Name.ID()}
	if l.keys[id] != nil {
		return tampered(name, "there are two rows of it")
	}
	k.CreatedBy = l.shared(k.CreatedBy)
	l.keys[id] = k
	l.contents.Keys = append(l.contents.Keys, k)
	return nil
}

func (l *loader) addVersion(r *record) error {
	name := versionTable.resource(r.fixed)
	if err := revisionWithin(versionTable, r, l.contents.Revision); err != nil {
		return err
	}
	key := l.keys[keyID{columnText(r.fixed[0]), columnText(r.fixed[1])}]
	if key == nil {
		return tampered(name, "the row of its key is missing")
	}
	v, err := readVersion(key.Name, r)
	if err != nil {
		return tampered(name, "%v", err)
	}
	if l.versions[v.Name] {
		return tampered(name, "there are two rows of it")
	}
	if other, ok := l.uids[v.UID]; ok {
		return tampered(name, "it has the same UID as %s", other)
	}
	l.versions[v.Name] = true
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
	name := reservationTable.resource(r.fixed)
	if _, err := readReservation(r); err != nil {
		return tampered(name, "%v", err)
	}
	uid, err := parseUID(columnText(r.fixed[0]))
	if err != nil {
		return tampered(name, "%v", err)
	}
	if l.strict[uid] == nil {
		return tampered(name, "there is no STRICT version with this UID, or two rows of its counter")
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
