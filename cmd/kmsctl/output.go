package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/jedib0t/go-pretty/v6/table"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// outputFormat is the value of --output; empty means table.
type outputFormat string

const (
	formatTable outputFormat = "table"
	formatWide  outputFormat = "wide" // a table with all columns
	formatJSON  outputFormat = "json"
	formatYAML  outputFormat = "yaml"
)

func (f *outputFormat) String() string { return string(*f) }

// Type names the values in the help.
func (f *outputFormat) Type() string { return "format" }

// Set is called by the flag's parser.
func (f *outputFormat) Set(s string) error {
	if !slices.Contains([]outputFormat{formatTable, formatWide, formatJSON, formatYAML}, outputFormat(s)) {
		return fmt.Errorf("want table, wide, json or yaml")
	}
	*f = outputFormat(s)
	return nil
}

// structured reports whether the output is for a program.
func (a *app) structured() bool { return a.output == formatJSON || a.output == formatYAML }

// refuseOutput is for commands whose result is not a record.
func (a *app) refuseOutput() error {
	if a.output != "" {
		return usagef("--output does not apply: the result of this command is data")
	}
	return nil
}

// column is a cell of a row and its heading.
type column struct {
	name, value string
	detail      bool // left out of lists
}

// showOne writes one resource: a line per field, or the message.
func showOne[M proto.Message](a *app, m M, row func(M) []column) error {
	if a.structured() {
		value, err := generic(m)
		if err != nil {
			return err
		}
		return a.encode(value)
	}
	w := newTable()
	for _, c := range row(m) {
		if c.value != "" {
			w.AppendRow(table.Row{c.name, printable(c.value)})
		}
	}
	return a.render(w)
}

// showList writes many: a table, or a list of messages.
func showList[M proto.Message](a *app, list []M, row func(M) []column) error {
	if a.structured() {
		values := make([]any, len(list)) // not nil: an empty list is [], not null
		for i, m := range list {
			var err error
			if values[i], err = generic(m); err != nil {
				return err
			}
		}
		return a.encode(values)
	}
	if len(list) == 0 {
		a.sayf("kmsctl: there are none")
		return nil
	}
	return a.render(listTable(list, row, a.output == formatWide))
}

// listTable has a row for each of the list, and the columns that any of them has a value
// for; details only if it is to be wide.
func listTable[M any](list []M, row func(M) []column, wide bool) table.Writer {
	rows := make([][]column, len(list))
	used := make(map[string]bool)
	for i, m := range list {
		for _, c := range row(m) {
			if wide || !c.detail {
				rows[i] = append(rows[i], c)
				used[c.name] = used[c.name] || c.value != ""
			}
		}
	}
	w := newTable()
	for i, columns := range rows {
		var head, cells table.Row
		for _, c := range columns {
			if used[c.name] {
				head = append(head, strings.ToUpper(c.name))
				cells = append(cells, printable(c.value))
			}
		}
		if i == 0 {
			w.AppendHeader(head)
		}
		w.AppendRow(cells)
	}
	return w
}

func newTable() table.Writer {
	w := table.NewWriter()
	style := table.StyleDefault
	style.Name = "plain"
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	w.SetStyle(style)
	w.SuppressTrailingSpaces()
	return w
}

func (a *app) render(w table.Writer) error {
	text := w.Render()
	if text == "" {
		return nil
	}
	_, err := fmt.Fprintln(a.stdout, text)
	return err
}

// generic is a message as maps and lists. Field names are those of the wire contract,
// and every field is there, so that a script can rely on it. (The text that protojson
// makes is deliberately unstable in its white space.)
func generic(m proto.Message) (any, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var value any
	err = json.Unmarshal(text, &value)
	return value, err
}

// encode writes a value as --output says. Keys of maps are in order.
func (a *app) encode(value any) error {
	var text bytes.Buffer
	if a.output == formatYAML {
		encoder := yaml.NewEncoder(&text)
		encoder.SetIndent(2)
		if err := encoder.Encode(value); err != nil {
			return err
		}
	} else {
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(value); err != nil {
			return err
		}
		escapeUnprintable(&text)
	}
	_, err := a.stdout.Write(text.Bytes())
	return err
}

// escapeUnprintable makes text of others in JSON harmless for a terminal: encoding/json
// escapes control characters of ASCII only. Line breaks aside, what is unprintable in
// JSON stands in strings.
func escapeUnprintable(text *bytes.Buffer) {
	s := text.String()
	unprintableOrNewline := func(r rune) bool { return r != '\n' && unprintable(r) }
	if !strings.ContainsFunc(s, unprintableOrNewline) {
		return
	}
	text.Reset()
	for _, r := range s {
		if !unprintableOrNewline(r) {
			text.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			_, _ = fmt.Fprintf(text, `\u%04x`, unit) // a buffer takes everything
		}
	}
}

// printable is text of others made harmless for a terminal: control characters, also
// those that only change the direction of writing, appear as escapes.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
