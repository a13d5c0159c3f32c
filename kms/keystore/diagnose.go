package keystore

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyholt/keyholt/kms"
)

// Diagnose examines the store: where it is, its schema, revision and size, and what
// the database has to say of itself. It reads the whole database file; on SQLite
// commits wait for it.
func (s *Store) Diagnose(ctx context.Context) []kms.Finding {
	d := s.database
	findings := []kms.Finding{
		finding("location", fmt.Sprintf("store %s: %s %s", d.id, d.dialect.name, d.dialect.location(d.dsn))),
		finding("schema", fmt.Sprintf("schema version %d", d.schema)),
		s.diagnoseContents(ctx),
	}
	return append(findings, d.dialect.diagnose(ctx, d.connection.db, d.dsn)...)
}

func (s *Store) diagnoseContents(ctx context.Context) kms.Finding {
	db := s.database.connection.db
	head, err := readHead(ctx, db, "")
	if err != nil {
		return broken("contents", err)
	}
	detail := fmt.Sprintf("revision %d, sealed under %s:", head.revision, head.keyID)
	for _, t := range []*table{namespaceTable, keyTable, versionTable, orphanTable, importJobTable} {
		rows, err := countRows(ctx, db, t.name)
		if err != nil {
			return broken("contents", err)
		}
		detail += " " + kms.Counted(rows, strings.ReplaceAll(strings.TrimSuffix(t.name, "s"), "_", " ")) + ","
	}
	return finding("contents", strings.TrimSuffix(detail, ","))
}

// finding is something that is as it should be.
func finding(check, detail string) kms.Finding {
	return kms.Finding{Area: "store", Check: check, Severity: kms.SeverityOK, Detail: detail}
}

// concern is something that is not as it should be.
func concern(severity kms.Severity, check, remedy, format string, args ...any) kms.Finding {
	return kms.Finding{
		Area: "store", Check: check, Severity: severity,
		Detail: fmt.Sprintf(format, args...), Remedy: remedy,
	}
}

// broken is something that could not be examined.
func broken(check string, err error) kms.Finding {
	return concern(kms.SeverityError, check,
		"see whether the store's disk is full, failing or read-only", "cannot be examined: %v", err)
}
