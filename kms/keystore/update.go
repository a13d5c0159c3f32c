package keystore

import (
	"context"

	"github.com/keyholt/keyholt/kms"
)

// Update makes one change, as kms.Store says. Beyond that contract:
//
//   - The name and the UID of a version, and the name, purpose, algorithm and profile of
//     a key, never change: a row that has others than the stored one is kms.ErrConflict,
//     as is a row that refers to one that does not exist.
//   - Times are kept to the microsecond, in UTC.
//   - A text that is not valid UTF-8 or holds a zero byte is kms.ErrInvalidRequest, and
//     nothing is done: not every database can keep it.
//   - A version of a STRICT key gets its encryption counter, at 0, in the same
//     transaction, so that a counter that is missing later was removed by somebody.
func (s *Store) Update(ctx context.Context, since kms.Revision, build func(*kms.Delta) (*kms.Change, error)) (kms.Head, error) {
	var refusal error
	head, err := s.write(ctx, since, func(ctx context.Context, v *view, w *writer) (bool, error) {
		var change *kms.Change
		if change, refusal = build(v.delta); refusal != nil || change == nil {
			return false, nil //nolint:nilerr // no error of the transaction: it ends without a change
		}
		return true, w.apply(ctx, change)
	})
	if err != nil {
		return kms.Head{}, err
	}
	return head, refusal
}

// apply makes the whole change. Rows come after those that they refer to, and are
// removed before them.
func (w *writer) apply(ctx context.Context, change *kms.Change) error {
	if change.Origin != nil {
		if err := putAll(ctx, w, originTable, []*kms.Origin{change.Origin}, originRecord); err != nil {
			return err
		}
	}
	if err := putAll(ctx, w, namespaceTable, change.Namespaces, namespaceRecord); err != nil {
		return err
	}
	if err := putAll(ctx, w, keyTable, change.Keys, keyRecord); err != nil {
		return err
	}
	for _, v := range change.Versions {
		if err := w.putVersion(ctx, v); err != nil {
			return err
		}
	}
	if err := putAll(ctx, w, orphanTable, change.Orphans, orphanRecord); err != nil {
		return err
	}
	if err := putAll(ctx, w, importJobTable, change.ImportJobs, importJobRecord); err != nil {
		return err
	}
	return w.applyRemovals(ctx, change)
}

func (w *writer) applyRemovals(ctx context.Context, change *kms.Change) error {
	for _, v := range change.RemoveVersions {
		if err := w.removeVersion(ctx, v); err != nil {
			return err
		}
	}
	for _, k := range change.RemoveKeys {
		if err := w.remove(ctx, keyTable, keyFixed(k), k.Revision); err != nil {
			return err
		}
	}
	for _, o := range change.RemoveOrphans {
		if err := w.remove(ctx, orphanTable, orphanFixed(o), o.Revision); err != nil {
			return err
		}
	}
	for _, j := range change.RemoveImportJobs {
		if err := w.remove(ctx, importJobTable, importJobFixed(j), j.Revision); err != nil {
			return err
		}
	}
	return nil
}

func putAll[T any](ctx context.Context, w *writer, t *table, values []*T, encode func(*T) (*record, error)) error {
	for _, value := range values {
		r, err := encode(value)
		if err != nil {
			return err
		}
		if err := w.put(ctx, t, r); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) putVersion(ctx context.Context, v *kms.Version) error {
	r, err := versionRecord(v)
	if err != nil {
		return err
	}
	if err := w.put(ctx, versionTable, r); err != nil || v.Revision != 0 {
		return err
	}
	var profile string
	key := v.Name.Key()
	err = w.tx.QueryRowContext(ctx, "SELECT profile FROM keys WHERE namespace_id = $1 AND key_id = $2",
		key.Namespace().ID(), key.ID()).Scan(&profile)
	if err != nil || profile != kms.ProfileStrict.String() {
		return err
	}
	return w.put(ctx, reservationTable, reservationRecord(v.UID, 0))
}

func (w *writer) removeVersion(ctx context.Context, v *kms.Version) error {
	counter := []any{v.UID.String()}
	if known, ok := w.pending.lookup(idOf(reservationTable, counter)); ok { // versions of DERIVED keys have none
		if err := w.remove(ctx, reservationTable, counter, known.revision); err != nil {
			return err
		}
	}
	return w.remove(ctx, versionTable, versionFixed(v), v.Revision)
}
