package keystore

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
)

// TestBackupRows holds that a row that is read from the golden backup and written again
// is the same text.
func TestBackupRows(t *testing.T) {
	text, err := os.ReadFile("testdata/backup.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(bytes.TrimSpace(text), []byte("\n"))
	rows := lines[1 : len(lines)-1]
	seen := make(map[string]bool)
	for _, line := range rows {
		var row backupRow
		if err := decodeLine(line, &row); err != nil {
			t.Fatal(err)
		}
		table, r, err := decodeRow(&row)
		if err != nil {
			t.Fatal(err)
		}
		seen[table.name] = true
		var again bytes.Buffer
		encoder := json.NewEncoder(&again)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(encodeRow(table, r)); err != nil {
			t.Fatal(err)
		}
		if again.String() != string(line) {
			t.Errorf("a row is\n%s\nand written again\n%s", line, &again)
		}
	}
	if len(seen) != len(sealedTables) {
		t.Errorf("the golden backup has rows of %d tables, want all %d", len(seen), len(sealedTables))
	}
}
