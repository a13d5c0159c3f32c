package keystore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/keyholt/keyholt/kms"
)

// scarceSpace is so little room on the disk of the store that an operator should know.
// The store itself grows by about 1 KB per key version.
const scarceSpace = 256 << 20

func diagnoseSQLite(ctx context.Context, db *sql.DB, path string) []kms.Finding {
	return []kms.Finding{
		diagnoseJournal(ctx, db),
		diagnoseIntegrity(ctx, db),
		diagnoseMode(path),
		diagnoseSpace(path),
	}
}

// diagnoseJournal reports the settings that durability rests on, as they are in effect.
func diagnoseJournal(ctx context.Context, db *sql.DB) kms.Finding {
	const check = "durability"
	var journal string
	var synchronous int64
	err := errors.Join(
		db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal),
		db.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous))
	if err != nil {
		return broken(check, err)
	}
	if journal != "wal" || synchronous < 2 {
		return concern(kms.SeverityError, check, "restart the service: it does not start without both",
			"journal_mode=%s synchronous=%d, instead of wal and 2 (FULL): a power failure can lose changes", journal, synchronous)
	}
	return finding(check, "journal_mode=wal synchronous=FULL")
}

func diagnoseIntegrity(ctx context.Context, db *sql.DB) kms.Finding {
	const check = "integrity"
	problems, err := quickCheck(ctx, db)
	if err != nil {
		return broken(check, err)
	}
	if len(problems) > 0 {
		return concern(kms.SeverityError, check, "restore the store from a backup, and examine the disk",
			"the database file is damaged: %s", clip(strings.Join(problems, "; ")))
	}
	return finding(check, "PRAGMA quick_check found nothing wrong")
}

// quickCheck returns what SQLite finds wrong with the database file.
func quickCheck(ctx context.Context, db *sql.DB) (problems []string, err error) {
	rows, err := db.QueryContext(ctx, "PRAGMA quick_check")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, err
		}
		if line != "ok" {
			problems = append(problems, line)
		}
	}
	return problems, rows.Err()
}

// diagnoseMode warns of a store that others on the machine can read or write.
func diagnoseMode(path string) kms.Finding {
	const check = "permissions"
	info, err := os.Stat(path)
	if err != nil {
		return broken(check, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return concern(kms.SeverityWarning, check, "chmod 600 "+path,
			"%s has mode %04o: others than its owner can use it", path, mode)
	}
	return finding(check, "only the owner can use the file")
}

func diagnoseSpace(path string) kms.Finding {
	const check = "space"
	var stat syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &stat); err != nil {
		return broken(check, err)
	}
	free := stat.Bavail * uint64(stat.Bsize)
	if free < scarceSpace {
		return concern(kms.SeverityWarning, check, "make room: with a full disk no metadata can be changed",
			"only %d MiB are free on the disk of the store", free>>20)
	}
	return finding(check, fmt.Sprintf("%d MiB are free on the disk of the store", free>>20))
}
