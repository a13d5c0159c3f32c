package keystore

import (
	"context"
	"crypto/hmac"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/keyholt/keyholt/kms"
)

// headRow is the head as it stands in the database.
type headRow struct {
	revision kms.Revision
	counts   string
	seal     []byte
	keyID    string // UID of the seal key
}

// querier is *sql.DB or *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// readHead reads the head. A store always has one. lock is the dialect's forUpdate, or
// nothing.
func readHead(ctx context.Context, q querier, lock string) (*headRow, error) {
	var h headRow
	var revision int64
	err := q.QueryRowContext(ctx, "SELECT revision, counts, seal, seal_key_id FROM head WHERE id = 1"+lock).
		Scan(&revision, &h.counts, &h.seal, &h.keyID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, tampered("table head", "its row is missing")
	}
	if err != nil {
		return nil, err
	}
	if revision < 0 {
		return nil, tampered("table head", "the revision is %d", revision)
	}
	h.revision = kms.Revision(revision)
	return &h, nil
}

// matches reports whether the head is the seal of the set. At revision 0 there is none:
// the store is empty, which it could be put back to at any time anyway.
func (h *headRow) matches(r *ring, storeID string, rows *counts, sum *digest) bool {
	if h.counts != rows.String() {
		return false
	}
	if h.revision == 0 {
		return *rows == counts{} && len(h.seal) == 0
	}
	seal := r.headSeal(storeID, h.revision, rows.String(), sum)
	return hmac.Equal(seal[:], h.seal)
}

// head returns the head for the caller, once it is known to match.
func (h *headRow) head() kms.Head {
	head := kms.Head{Revision: h.revision}
	copy(head.Seal[:], h.seal)
	return head
}

// misfit says as precisely as can be why a set of rows, each with a good seal and none of
// a later revision than the head, is not the one that the head seals.
func (h *headRow) misfit(rows *counts) error {
	if found := rows.String(); h.counts != found {
		return tampered("table head", "%s: rows were removed or put back, or the head was edited", differences(h.counts, found))
	}
	return tampered("table head", "the head of revision %d does not seal the rows that there are: "+
		"a row was put back to an older state, or removed and another put back, or the head was edited", h.revision)
}

// differences compares two counts of rows.
func differences(said, found string) string {
	saidTerms, foundTerms := strings.Fields(said), strings.Fields(found)
	var differing []string
	for i, term := range foundTerms {
		if len(saidTerms) != len(foundTerms) {
			return fmt.Sprintf("there are the rows %q, but the head says %q", found, clip(said))
		}
		if saidTerms[i] != term {
			differing = append(differing, fmt.Sprintf("there are %s rows, but the head says %s", term, clip(saidTerms[i])))
		}
	}
	return strings.Join(differing, "; ")
}

// wentBack is the error of a store that is older than what this process has seen of it.
func wentBack(at, seen kms.Revision) error {
	return &kms.Error{
		Sentinel: kms.ErrStoreWentBack,
		Message: fmt.Sprintf("the store is at revision %d, but this process has seen revision %d of it: it lost changes, "+
			"as by a fail-over to a standby that had not received them, or an older copy was put in its place", at, seen),
		Metadata: map[string]string{"revision": fmt.Sprint(at), "seen_revision": fmt.Sprint(seen)},
	}
}

// otherHistory is the error of a store that is sound but did not come from the state that
// this process has seen.
func otherHistory(at kms.Revision) error {
	return &kms.Error{
		Sentinel: kms.ErrStoreWentBack,
		Message: fmt.Sprintf("the store is at revision %d of another history than the one that this process has seen: it lost "+
			"changes and then went on, as after a fail-over to a standby that had not received them", at),
		Metadata: map[string]string{"revision": fmt.Sprint(at)},
	}
}
