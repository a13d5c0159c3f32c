package main

import (
	"bytes"
	"encoding/json"
	"testing"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"Prüfung 日本, a=\"b\" \\n": "Prüfung 日本, a=\"b\" \\n",
		"\x1b]0;title\a":          `\x1b]0;title\a`,
		"two\nlines\tand a tab":   `two\nlines\tand a tab`,
		"evil\u202etxt.exe":       `evil\u202etxt.exe`,
		"\xff":                    "\uFFFD",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// The exact bytes of structured output: scripts rely on them.
// TestEscapedJSON: what a terminal could obey is escaped, and the value stays the same.
func TestEscapedJSON(t *testing.T) {
	const text = "a\u009b31m\u202e\u007f\x1b[2J\nü \U000e0041\u2028"
	var out bytes.Buffer
	a := &app{stdout: &out, output: formatJSON}
	if err := a.encode(map[string]any{"reason": text}); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"reason\": \"a\\u009b31m\\u202e\\u007f\\u001b[2J\\nü \\udb40\\udc41\\u2028\"\n}\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	var value map[string]string
	if err := json.Unmarshal(out.Bytes(), &value); err != nil || value["reason"] != text {
		t.Errorf("%q, %v", value["reason"], err)
	}
}

// What is to be done about a finding stands with it, wherever the longest detail ends.
func TestFindingsStayNarrow(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out}
	err := showList(a, []*kmsv1.Finding{
		{Area: "token", Check: "algorithms", Severity: severityOK, Detail: "one of very many"},
		{Area: "keys", Check: "versions", Severity: severityError, Detail: "one", Remedy: "look"},
	}, findingRow)
	if err != nil {
		t.Fatal(err)
	}
	want := `RESULT  AREA   CHECK       DETAIL
OK      token  algorithms  one of very many
ERROR   keys   versions    one. What to do: look
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestEncodings(t *testing.T) {
	finding := &kmsv1.Finding{Area: "token", Check: "a<b", Severity: severityWarning}
	for format, want := range map[outputFormat]string{
		formatJSON: `[
  {
    "area": "token",
    "check": "a<b",
    "detail": "",
    "remedy": "",
    "severity": "SEVERITY_WARNING"
  }
]
`,
		formatYAML: `- area: token
  check: a<b
  detail: ""
  remedy: ""
  severity: SEVERITY_WARNING
`,
		formatTable: `RESULT   AREA   CHECK
WARNING  token  a<b
`,
	} {
		var out bytes.Buffer
		a := &app{stdout: &out, output: format}
		if err := showList(a, []*kmsv1.Finding{finding}, findingRow); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s: got\n%s\nwant\n%s", format, out.String(), want)
		}
	}
}
