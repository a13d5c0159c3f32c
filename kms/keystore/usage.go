package keystore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// usageRows is how many rows of usage one statement reads or writes: PostgreSQL and
// SQLite take at least 32,766 values.
const usageRows = 250

// AddUsage adds to the usage statistics. Rows come in one order, so that two replicas
// that add at the same time do not wait for each other in a circle.
func (s *Store) AddUsage(ctx context.Context, added []kms.UsageCount) error {
	added = merged(added)
	if len(added) == 0 {
		return nil
	}
	return s.transact(ctx, s.database.dialect.writeOptions, cannotWrite, func(tx *sql.Tx) error {
		for part := range slices.Chunk(added, usageRows) {
			rows := make([]string, len(part))
			values := make([]any, 0, 4*len(part))
			for i, u := range part {
				rows[i] = fmt.Sprintf("($%d, $%d, $%d, $%d)", 4*i+1, 4*i+2, 4*i+3, 4*i+4)
				values = append(values, u.UID.String(), string(u.Action), int64(min(u.Count, math.MaxInt64)), u.LastUsed.UnixMicro())
			}
			//nolint:gosec // what is put together are placeholders
			_, err := tx.ExecContext(ctx, "INSERT INTO usage (uid, action, count, last_used) VALUES "+strings.Join(rows, ", ")+
				" ON CONFLICT (uid, action) DO UPDATE SET count = usage.count + excluded.count,"+
				" last_used = CASE WHEN excluded.last_used > usage.last_used THEN excluded.last_used ELSE usage.last_used END", values...)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// merged returns the counts in order, with one entry for each version and action.
func merged(added []kms.UsageCount) []kms.UsageCount {
	sorted := slices.SortedFunc(slices.Values(added), func(a, b kms.UsageCount) int {
		return cmp.Or(slices.Compare(a.UID[:], b.UID[:]), cmp.Compare(a.Action, b.Action))
	})
	var result []kms.UsageCount
	for _, u := range sorted {
		if n := len(result); n > 0 && result[n-1].UID == u.UID && result[n-1].Action == u.Action {
			result[n-1].Count += u.Count
			if u.LastUsed.After(result[n-1].LastUsed) {
				result[n-1].LastUsed = u.LastUsed
			}
			continue
		}
		result = append(result, u)
	}
	return result
}

// Usage returns the usage statistics of versions, ordered by UID and action within each
// part of a long list.
func (s *Store) Usage(ctx context.Context, uids []hsm.UID) (found []kms.UsageCount, err error) {
	err = s.transact(ctx, s.database.dialect.readOptions, cannotRead, func(tx *sql.Tx) error {
		for part := range slices.Chunk(uids, usageRows) {
			if found, err = readUsage(ctx, tx, part, found); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

func readUsage(ctx context.Context, tx *sql.Tx, uids []hsm.UID, found []kms.UsageCount) ([]kms.UsageCount, error) {
	places, values := make([]string, len(uids)), make([]any, len(uids))
	for i, uid := range uids {
		places[i], values[i] = fmt.Sprintf("$%d", i+1), uid.String()
	}
	//nolint:gosec // what is put together are placeholders
	rows, err := tx.QueryContext(ctx, "SELECT uid, action, count, last_used FROM usage WHERE uid IN ("+
		strings.Join(places, ", ")+") ORDER BY uid, action", values...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var uid, action string
		var count, lastUsed int64
		if err := rows.Scan(&uid, &action, &count, &lastUsed); err != nil {
			return nil, err
		}
		parsed, err := parseUID(uid)
		if err != nil || count < 0 {
			return nil, tampered("table usage", "the row of %q holds %d uses", clip(uid), count)
		}
		found = append(found, kms.UsageCount{
			UID: parsed, Action: kms.Action(action), Count: uint64(count), LastUsed: time.UnixMicro(lastUsed).UTC(),
		})
	}
	return found, rows.Err()
}
