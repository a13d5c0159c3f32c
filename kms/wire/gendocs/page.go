package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

//go:embed errors.md.tmpl
var pageText string

// errorsPage renders the document.
func errorsPage() ([]byte, error) {
	page, err := template.New("errors").Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	data := map[string]any{
		"Domain":          wire.Domain,
		"Table":           table(wire.Rows()),
		"MaxItems":        kms.MaxItems,
		"MaxMessageBytes": wire.MaxMessageBytes,
	}
	err = page.Execute(&b, data)
	return b.Bytes(), err
}

func table(rows []wire.Row) string {
	var b strings.Builder
	b.WriteString("| Reason | gRPC code | When | What to do | Wait |\n|---|---|---|---|---|\n")
	for _, row := range rows {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n",
			row.Reason, codeName(row.Code), row.When, row.Advice, wait(row.Retry))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func wait(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// codeName is a code in the words of google.rpc.Code: FAILED_PRECONDITION.
func codeName(code codes.Code) string {
	var b strings.Builder
	for i, r := range code.String() {
		if i > 0 && 'A' <= r && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}
