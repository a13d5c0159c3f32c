package keystore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// maxBackupLine bounds a line of a backup. The longest texts of a row have published
// limits, which together are well below it.
const maxBackupLine = 1 << 20

// ReadBackup reads a backup of this store or of another, and verifies it just as Load
// verifies a store. It stops at the first row that is not as it should be, so what it
// keeps in memory is what was once sealed in the token. Lines that do not parse, a
// missing end and anything after the end are kms.ErrInvalidRequest.
func (s *Store) ReadBackup(ctx context.Context, r io.Reader) (*kms.Backup, error) {
	lines := &backupLines{reader: bufio.NewReaderSize(r, maxBackupLine)}
	header, uid, err := lines.header()
	if err != nil {
		return nil, err
	}
	ring, err := openRing(ctx, s.open, header.StoreID, header.SealKey)
	if err != nil {
		return nil, err
	}
	l := newLoader(ring, header.StoreID, &headRow{revision: header.Revision, keyID: header.SealKey})
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		done, err := lines.next(l)
		if err != nil {
			return nil, err
		}
		if done {
			break
		}
	}
	if err := l.finish(); err != nil {
		return nil, err
	}
	return &kms.Backup{Contents: l.contents, StoreID: header.StoreID, SealKey: uid}, nil
}

// backupLines reads the lines of a backup.
type backupLines struct {
	reader *bufio.Reader
	number int // of the line that was read last, from 1
	order  int // of the table that was met last
}

// line reads a line, without the line feed; it is valid until the next one is read.
func (b *backupLines) line() ([]byte, error) {
	b.number++
	line, err := b.reader.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, b.malformed("it is longer than %d bytes", maxBackupLine)
	case errors.Is(err, io.EOF) && len(line) == 0 && b.number == 1:
		return nil, b.malformed("the backup is empty")
	case errors.Is(err, io.EOF):
		return nil, b.malformed("the backup was cut off here: its last line, with the head, is missing")
	case err != nil:
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	return line[:len(line)-1], nil
}

func (b *backupLines) header() (*backupHeader, hsm.UID, error) {
	line, err := b.line()
	if err != nil {
		return nil, hsm.UID{}, err
	}
	var header backupHeader
	if err := decodeLine(line, &header); err != nil || header.Format != backupFormat {
		return nil, hsm.UID{}, b.malformed("this is no backup of a store")
	}
	if header.Version != backupVersion {
		return nil, hsm.UID{}, b.malformed("the backup has version %d of the format, but this release reads %d", header.Version, backupVersion)
	}
	uid, err := parseUID(header.SealKey)
	if err != nil {
		return nil, hsm.UID{}, b.malformed("seal_key: %v", err)
	}
	return &header, uid, nil
}

// next takes in the line of a row, or the last one.
func (b *backupLines) next(l *loader) (done bool, err error) {
	line, err := b.line()
	if err != nil {
		return false, err
	}
	if bytes.HasPrefix(line, []byte(`{"head":`)) {
		return true, b.end(line, l)
	}
	var row backupRow
	if err := decodeLine(line, &row); err != nil {
		return false, b.malformed("%v", err)
	}
	t, r, err := decodeRow(&row)
	if err != nil {
		return false, b.malformed("%v", err)
	}
	if t.ordinal < b.order {
		return false, b.malformed("a row of %s comes too late", t.name)
	}
	b.order = t.ordinal
	r.sealKeyID = l.head.keyID
	return false, l.add(t, r)
}

func (b *backupLines) end(line []byte, l *loader) error {
	var end backupEnd
	if err := decodeLine(line, &end); err != nil || end.Head == nil {
		return b.malformed("this is no head")
	}
	seal, err := hex.DecodeString(end.Head.Seal)
	if err != nil {
		return b.malformed("the seal is not hexadecimal")
	}
	if _, err := b.reader.ReadByte(); !errors.Is(err, io.EOF) {
		return b.malformed("something follows the last line")
	}
	l.head.counts, l.head.seal = end.Head.Counts, seal
	return nil
}

func (b *backupLines) malformed(format string, args ...any) error {
	return kms.Invalid(kms.Violation{
		Field: "backup", Description: fmt.Sprintf("line %d: ", b.number) + fmt.Sprintf(format, args...),
	})
}

// decodeLine reads one JSON object and nothing else. Numbers in values stay text.
func decodeLine(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one value")
	}
	return nil
}

// decodeRow is the inverse of encodeRow, but for the id of the seal key.
func decodeRow(row *backupRow) (*table, *record, error) {
	var t *table
	for _, known := range sealedTables {
		if known.name == row.Table {
			t = known
		}
	}
	if t == nil {
		return nil, nil, fmt.Errorf("there is no table %q", clip(row.Table))
	}
	if len(row.Columns) != len(t.fixed)+len(t.content) {
		return nil, nil, fmt.Errorf("a row of %s has %d columns, but here are %d", t.name, len(t.fixed)+len(t.content), len(row.Columns))
	}
	seal, err := hex.DecodeString(row.Seal)
	if err != nil {
		return nil, nil, errors.New("the seal is not hexadecimal")
	}
	r := &record{revision: kms.Revision(row.Revision), seal: seal}
	if r.fixed, err = decodeValues(row, t.fixed); err != nil {
		return nil, nil, err
	}
	r.content, err = decodeValues(row, t.content)
	return t, r, err
}

func decodeValues(row *backupRow, names []string) ([]any, error) {
	values := make([]any, len(names))
	for i, name := range names {
		value, ok := row.Columns[name]
		if !ok {
			return nil, fmt.Errorf("the column %s is missing", name)
		}
		var err error
		if values[i], err = decodeValue(value); err != nil {
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
	}
	return values, nil
}

func decodeValue(value any) (any, error) {
	switch v := value.(type) {
	case nil, string:
		return v, nil
	case json.Number:
		return v.Int64()
	case map[string]any:
		text, ok := v["hex"].(string)
		if !ok || len(v) != 1 {
			return nil, errors.New("this is no value of bytes")
		}
		return hex.DecodeString(text)
	default:
		return nil, fmt.Errorf("a value of type %T", value)
	}
}
