package wire

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyholt/keyholt/kms"
)

// sentinels reads the exported sentinels of package kms from its source: name and text.
func sentinels(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of package kms: %v", err)
	}
	found := make(map[string]string)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range parsed.Decls {
			list, ok := declaration.(*ast.GenDecl)
			if !ok || list.Tok != token.VAR {
				continue
			}
			for _, spec := range list.Specs {
				values, ok := spec.(*ast.ValueSpec)
				if !ok || !strings.HasPrefix(values.Names[0].Name, "Err") {
					continue
				}
				found[values.Names[0].Name] = text(t, values)
			}
		}
	}
	return found
}

// text is the message of errors.New.
func text(t *testing.T, values *ast.ValueSpec) string {
	t.Helper()
	name := values.Names[0].Name
	if len(values.Names) != 1 || len(values.Values) != 1 {
		t.Fatalf("%s is not declared alone", name)
	}
	call, ok := values.Values[0].(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		t.Fatalf("%s is not made by errors.New", name)
	}
	literal, ok := call.Args[0].(*ast.BasicLit)
	if !ok {
		t.Fatalf("%s has no literal text", name)
	}
	s, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEverySentinelHasARow(t *testing.T) {
	rows := make(map[string]bool)
	for _, row := range Rows() {
		if rows[row.Sentinel.Error()] {
			t.Errorf("two rows for %q", row.Sentinel)
		}
		rows[row.Sentinel.Error()] = true
	}
	names := sentinels(t)
	if len(names) < 30 {
		t.Fatalf("only %d sentinels found in package kms", len(names))
	}
	for name, text := range names {
		if !rows[text] {
			t.Errorf("kms.%s has no row", name)
		}
	}
}

func TestRows(t *testing.T) {
	reasons := make(map[string]bool)
	upperSnake := regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)
	for i, row := range Rows() {
		if !upperSnake.MatchString(row.Reason) || reasons[row.Reason] {
			t.Errorf("reason %q is no constant, or not unique", row.Reason)
		}
		reasons[row.Reason] = true
		if row.Code == codes.OK || row.Code == codes.Unknown || row.Code > codes.Unauthenticated {
			t.Errorf("%s has the code %v", row.Reason, row.Code)
		}
		for _, text := range []string{row.When, row.Advice} {
			if !strings.HasSuffix(text, ".") || strings.ContainsAny(text, "|\n") {
				t.Errorf("%s: %q is no sentence for a table", row.Reason, text)
			}
		}
		// The search goes from the top: no row may hide another.
		for _, later := range Rows()[i+1:] {
			if errors.Is(later.Sentinel, row.Sentinel) {
				t.Errorf("%s hides %s", row.Reason, later.Reason)
			}
		}
	}
}

func TestReasonAndAdvice(t *testing.T) {
	if Reason(nil) != "" || Advice(nil) != "" {
		t.Error("nil has a reason or advice")
	}
	unknown := errors.New("unknown")
	if Reason(unknown) != "INTERNAL" || Advice(unknown) != "" {
		t.Errorf("unknown: %q, %q", Reason(unknown), Advice(unknown))
	}
	for _, row := range Rows() {
		for _, err := range []error{row.Sentinel, &kms.Error{Sentinel: row.Sentinel, Cause: unknown}} {
			if Reason(err) != row.Reason || Advice(err) != row.Advice {
				t.Errorf("%v: %q, %q", err, Reason(err), Advice(err))
			}
		}
	}
}
