package keystore

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"github.com/keyholt/keyholt/kms"
)

// A backup is a text of lines, each a JSON object (RFC 8259) in UTF-8. The first line is
// the header, the last one the head, and between them stands one line per sealed row: each
// row after those that it refers to, in the order of sealedTables. Line feeds are broken
// here that are not there:
//
//	{"format":"keyholt store backup","version":1,"store_id":"0011223344556677",
//	 "seal_key":"000102030405060708090a0b0c0d0e0f","revision":17}
//	{"table":"namespaces","columns":{"created_by":"unix:0","create_time":1774744215123456,
//	 "namespace_id":"shop"},"revision":3,"seal":"64 hexadecimal digits"}
//	{"head":{"counts":"origin=0 namespace=1 ...","seal":"64 hexadecimal digits"}}
//
// columns holds the values of the row's columns as they stand in the database: text as a
// string, an integer as a number without fraction or exponent, NULL as null, and bytes as
// {"hex":"..."}. seal and revision are those of the row, and its seal key is that of the
// header. Numbers are at most 2^63-1: a reader must not take them for floating point.
//
// The rows are everything that is sealed; the encryption counters and the record of
// removals among them, without which the head's seal could not be verified. Whoever has
// the backup but not the token can read it, and make no other that passes.
const (
	backupFormat  = "keyholt store backup"
	backupVersion = 1
)

// backupHeader is the first line.
type backupHeader struct {
	Format   string       `json:"format"`
	Version  int          `json:"version"`
	StoreID  string       `json:"store_id"`
	SealKey  string       `json:"seal_key"`
	Revision kms.Revision `json:"revision"`
}

// backupRow is the line of a row.
type backupRow struct {
	Table    string         `json:"table"`
	Columns  map[string]any `json:"columns"`
	Revision int64          `json:"revision"`
	Seal     string         `json:"seal"`
}

// backupEnd is the last line.
type backupEnd struct {
	Head *backupHead `json:"head"`
}

type backupHead struct {
	Counts string `json:"counts"`
	Seal   string `json:"seal"`
}

// backupBytes is a value of bytes.
type backupBytes struct {
	Hex string `json:"hex"`
}

// Backup reads and verifies everything, as Load does, and then writes it: a slow writer
// keeps nobody from the store, and a store that does not verify makes no backup.
func (s *Store) Backup(ctx context.Context, w io.Writer) (kms.Head, error) {
	var body bytes.Buffer
	rows := json.NewEncoder(&body)
	rows.SetEscapeHTML(false)
	l, err := s.readStore(ctx, func(t *table, r *record) error { return rows.Encode(encodeRow(t, r)) })
	if err != nil {
		return kms.Head{}, err
	}
	header, err := json.Marshal(&backupHeader{
		Format: backupFormat, Version: backupVersion,
		StoreID: s.database.id, SealKey: l.head.keyID, Revision: l.head.revision,
	})
	if err != nil {
		return kms.Head{}, err
	}
	if err := rows.Encode(&backupEnd{Head: &backupHead{Counts: l.head.counts, Seal: hex.EncodeToString(l.head.seal)}}); err != nil {
		return kms.Head{}, err
	}
	for _, part := range [][]byte{append(header, '\n'), body.Bytes()} {
		if _, err := w.Write(part); err != nil {
			return kms.Head{}, fmt.Errorf("write the backup: %w", err)
		}
	}
	return l.contents.Head, nil
}

func encodeRow(t *table, r *record) *backupRow {
	columns := make(map[string]any, len(t.fixed)+len(t.content))
	for i, name := range t.fixed {
		columns[name] = encodeValue(r.fixed[i])
	}
	for i, name := range t.content {
		columns[name] = encodeValue(r.content[i])
	}
	return &backupRow{Table: t.name, Columns: columns, Revision: int64(r.revision), Seal: hex.EncodeToString(r.seal)}
}

func encodeValue(value any) any {
	if b, ok := value.([]byte); ok {
		return backupBytes{Hex: hex.EncodeToString(b)}
	}
	return value
}
