package audit

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/keyholt/keyholt/kms"
)

// encoded is the line of an event without its id.
func encoded(event *kms.Event) string {
	e := encoder{reason: testReason}
	e.encode(event)
	return "{" + string(e.line)
}

// TestGolden holds the format that the package comment describes.
func TestGolden(t *testing.T) {
	source, target := versionName(t, "namespaces/shop/keys/orders/versions/7"), versionName(t, "namespaces/shop/keys/orders/versions/12")
	rewrap := dataEvent(t)
	rewrap.Action = kms.ActionRewrapDataKey
	rewrap.Items = []kms.ItemEvent{
		{Count: 2, Version: source, Target: target, Context: map[string]string{"b": "2", "a": "1"}},
		{Count: 1, Err: errRefused},
	}
	refused := controlEvent("quoted \" and \\,\nsecond line\x00\x7f\xff, Schlüssel 🔑")
	refused.Err = errRefused
	checked := dataEvent(t)
	checked.Revision, checked.CheckedAt = 42, 12345678901*time.Nanosecond
	changed := controlEvent("")
	changed.Spread = &kms.Spread{Revision: 43, Acknowledged: []string{"a:1", "b\":2"}, Expired: []string{"c:3"}, Took: 1520 * time.Millisecond}
	alone := controlEvent("")
	alone.Spread = &kms.Spread{Revision: 44}
	verified := dataEvent(t)
	verified.Action, verified.Context = kms.ActionVerify, nil
	verified.Items = []kms.ItemEvent{
		{Count: 1, Version: source, Verdict: kms.VerdictValid}, {Count: 3, Version: source, Verdict: kms.VerdictInvalid},
	}
	imported := controlEvent("")
	imported.Action, imported.Resource, imported.ImportJob = kms.ActionImportVersion, source.String(), jobName(t, "namespaces/shop/importJobs/laptop")
	notImported := *imported
	notImported.Resource, notImported.Err = source.Key().String(), errRefused
	events := []*kms.Event{
		verified, dataEvent(t), rewrap, refused, checked, changed, alone, imported, &notImported,
		{Action: kms.ActionDiagnose, Principal: kms.Principal{Method: kms.MethodSystem}}, {},
	}

	var got strings.Builder
	for _, event := range events {
		line := encoded(event)
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
		got.WriteString(line)
	}
	want, err := os.ReadFile("testdata/records.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the records are\n%s\nwant\n%s", got.String(), want)
	}
}

// FuzzAppendString holds that a string is read back as it was, on one line, whatever is
// in it.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\b\f\n\r\t\x00\x1f\x7f", "ü🔑\u2028", "\xff\xc3", "a\xed\xa0\x80z", "\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := appendString(nil, s)
		for _, c := range text {
			if c < ' ' || c == 0x7f {
				t.Fatalf("%q holds a control character", text)
			}
		}
		var got string
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if want := strings.Join(runes(s), ""); got != want {
			t.Errorf("%q was read back as %q", s, got)
		}
	})
}

// runes splits a string into its characters; each byte that is not UTF-8 is one U+FFFD.
func runes(s string) (characters []string) {
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		characters = append(characters, string(r))
		s = s[size:]
	}
	return characters
}

func TestParseSync(t *testing.T) {
	for _, s := range []string{"always", "1s", "250ms", "1ms"} {
		how, err := ParseSync(s)
		if err != nil || how.String() != s {
			t.Errorf("ParseSync(%q): %v, %v", s, how, err)
		}
	}
	for _, s := range []string{"", "never", "0s", "-1s", "1001ms", "1", "Always"} {
		if how, err := ParseSync(s); err == nil {
			t.Errorf("ParseSync(%q): %v", s, how)
		}
	}
	if SyncAlways() != (Sync{}) {
		t.Error("the zero value is not the safe one")
	}
}

// BenchmarkEncode encodes the record of a batch.
func BenchmarkEncode(b *testing.B) {
	event := dataEvent(b)
	e := encoder{reason: testReason}
	b.ReportAllocs()
	for b.Loop() {
		e.encode(event)
	}
}
