package keystore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/keyholt/keyholt/kms"
)

// view is what a transaction has read: the ring of the seal key in use, the head, and
// what has changed since the revision that the caller knows.
type view struct {
	ring   *ring
	stored *headRow
	head   kms.Head
	delta  *kms.Delta
}

// changedRow is a row whose own seal is good.
type changedRow struct {
	table  *table
	record *record
	id     rowID
	entry  entry
}

// The reasons why the index cannot be carried on by the rows that were read.
var (
	errOvertaken = errors.New("the index is beyond the transaction")
	errMisfit    = errors.New("the head does not seal the set")
)

// Changes reads in one transaction what has changed since a revision. A row that came
// and went in between may be among the removed.
func (s *Store) Changes(ctx context.Context, since kms.Revision) (*kms.Delta, error) {
	for {
		var v *view
		known := s.index.position() // before the transaction, which will see at least that
		err := s.transact(ctx, s.database.dialect.readOptions, cannotRead, func(tx *sql.Tx) (err error) {
			v, err = s.catchUp(ctx, tx, since, known, "")
			return err
		})
		if errors.Is(err, errOvertaken) {
			continue // another call has seen a later revision in the meantime
		}
		if err != nil {
			return nil, err
		}
		return v.delta, nil
	}
}

// catchUp carries the index on to what the transaction sees, and returns what has
// changed since a revision. known is a head that the transaction must see or be beyond.
func (s *Store) catchUp(ctx context.Context, tx *sql.Tx, since kms.Revision, known kms.Head, lock string) (*view, error) {
	stored, err := readHead(ctx, tx, lock)
	if err != nil {
		return nil, err
	}
	if seen := max(since, known.Revision); stored.revision < seen {
		return nil, wentBack(stored.revision, seen)
	}
	ring, err := s.ring(ctx, stored.keyID)
	if err != nil {
		return nil, err
	}
	if !s.index.holds(ring.keyID) {
		return s.reload(ctx, tx, stored, ring, since, known)
	}
	rows, err := readChanged(ctx, tx, ring, stored, min(since, known.Revision))
	if err != nil {
		return nil, err
	}
	err = s.index.advance(ring, s.database.id, stored, rows, since)
	if errors.Is(err, errMisfit) {
		// What is wrong shows when everything is read. If nothing is, then the set did not
		// come from the one that was seen.
		if _, err := readAll(ctx, tx, ring, s.database.id, stored, nil); err != nil {
			return nil, err
		}
		return nil, otherHistory(stored.revision)
	}
	if err != nil {
		return nil, err
	}
	delta, err := newDelta(stored.head(), rows, since)
	return &view{ring: ring, stored: stored, head: stored.head(), delta: delta}, err
}

// readChanged reads and verifies the rows of later revisions than base.
func readChanged(ctx context.Context, tx *sql.Tx, ring *ring, stored *headRow, base kms.Revision) ([]changedRow, error) {
	if stored.revision == base {
		return nil, nil
	}
	var changed []changedRow
	v := newVerifier(ring)
	for _, t := range sealedTables {
		err := forEach(ctx, tx, t, func(r *record) error {
			if err := revisionWithin(t, r, stored.revision); err != nil {
				return err
			}
			e, err := v.verify(t, r)
			changed = append(changed, changedRow{t, r, idOf(t, r.fixed), e})
			return err
		}, t.changed, int64(base))
		if err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// forEach calls f with each row that the statement reads from the table.
func forEach(ctx context.Context, tx *sql.Tx, t *table, f func(*record) error, statement string, args ...any) error {
	rows, err := tx.QueryContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		r, err := t.scan(rows)
		if err != nil {
			return err
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// advance carries the index on to the stored head by the rows that have changed since
// the index's revision, or longer. errMisfit: the result is not what the head seals.
// errOvertaken: the index is beyond the head already.
func (x *index) advance(ring *ring, storeID string, stored *headRow, rows []changedRow, since kms.Revision) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := x.set.head.Revision
	if at > stored.revision || x.set.keyID != ring.keyID {
		return errOvertaken
	}
	p := x.change(func(id rowID) (entry, bool) { e, ok := x.set.rows[id]; return e, ok })
	for _, c := range rows { // what was removed can be there again
		if c.table == removalTable && c.entry.revision > at {
			if err := p.applyRemoval(c.record); err != nil {
				return err
			}
		}
	}
	for _, c := range rows {
		if c.entry.revision > at {
			p.put(c.table, c.id, c.entry)
		}
	}
	if at == stored.revision && x.set.head != stored.head() || !stored.matches(ring, storeID, &p.counts, &p.sum) {
		return errMisfit
	}
	if err := p.checkReferences(rows); err != nil {
		return err
	}
	x.apply(p, stored.head())
	return x.checkSince(rows, since)
}

// checkSince checks that the rows read are all that have changed since a revision, and
// each as it is known: the head only seals how the set came from the index's revision,
// which can be later. The caller holds mu.
func (x *index) checkSince(rows []changedRow, since kms.Revision) error {
	found := 0
	for _, c := range rows {
		if c.entry.revision <= since {
			continue
		}
		if x.set.rows[c.id] != c.entry {
			return tampered(c.table.resource(c.record.fixed), "the row was put back to an older state")
		}
		found++
	}
	if want := x.changedSince(since); found != want {
		return tampered("table head", "%d rows have changed since revision %d, but only %d are there: "+
			"a row was removed, or put back to an older state", want, since, found)
	}
	return nil
}

// applyRemoval takes out the row that the record of the removal names.
func (p *pending) applyRemoval(r *record) error {
	removed, err := readRemoval(r)
	if err != nil {
		return tampered(removalTable.resource(r.fixed), "%v", err)
	}
	p.remove(removed.table, idOf(removed.table, removed.naming))
	return nil
}

// checkReferences checks that rows have what they refer to.
func (p *pending) checkReferences(rows []changedRow) error {
	for _, c := range rows {
		missing := ""
		switch c.table {
		case importJobTable:
			if _, ok := p.lookup(idOf(namespaceTable, c.record.fixed)); !ok {
				missing = "its namespace"
			}
		case keyTable:
			if _, ok := p.lookup(idOf(namespaceTable, c.record.fixed)); !ok {
				missing = "its namespace"
			}
			if primary := c.record.content[2]; primary != int64(0) {
				if _, ok := p.lookup(idOf(versionTable, []any{c.record.fixed[0], c.record.fixed[1], primary})); !ok {
					missing = "its primary version"
				}
			}
		case versionTable:
			if _, ok := p.lookup(idOf(keyTable, c.record.fixed)); !ok {
				missing = "its key"
			}
		}
		if missing != "" {
			return tampered(c.table.resource(c.record.fixed), "the row of %s is missing", missing)
		}
	}
	return nil
}

// newDelta makes of the rows what the caller is told.
func newDelta(head kms.Head, rows []changedRow, since kms.Revision) (*kms.Delta, error) {
	d := &kms.Delta{Head: head}
	there := make(map[rowID]bool, len(rows)) // whatever was made again after a removal is among the rows
	for _, c := range rows {
		there[c.id] = true
	}
	for _, c := range rows {
		if c.entry.revision <= since {
			continue
		}
		var err error
		switch c.table {
		case originTable:
			d.Origin, err = readOrigin(c.record)
		case namespaceTable:
			err = appendRow(&d.Namespaces, c.record, readNamespace)
		case keyTable:
			err = appendRow(&d.Keys, c.record, readKey)
		case versionTable:
			err = appendRow(&d.Versions, c.record, readVersion)
		case orphanTable:
			err = appendRow(&d.Orphans, c.record, readOrphan)
		case importJobTable:
			err = appendRow(&d.ImportJobs, c.record, readImportJob)
		case removalTable:
			var r *removal
			if r, err = readRemoval(c.record); err == nil && !there[idOf(r.table, r.naming)] {
				r.addTo(d)
			}
		}
		if err != nil {
			return nil, tampered(c.table.resource(c.record.fixed), "%v", err)
		}
	}
	return d, nil
}

func appendRow[T any](list *[]*T, r *record, read func(*record) (*T, error)) error {
	value, err := read(r)
	*list = append(*list, value)
	return err
}

// reload makes the index from everything that the store holds.
func (s *Store) reload(ctx context.Context, tx *sql.Tx, stored *headRow, ring *ring, since kms.Revision, known kms.Head) (*view, error) {
	l, err := readAll(ctx, tx, ring, s.database.id, stored, nil)
	if err != nil {
		return nil, err
	}
	if known.Revision == stored.revision && known.Revision != 0 && known != stored.head() {
		return nil, otherHistory(stored.revision)
	}
	s.index.replace(l.set)
	if !s.index.holds(ring.keyID) {
		return nil, errOvertaken
	}
	return &view{ring: ring, stored: stored, head: stored.head(), delta: l.since(since)}, nil
}
