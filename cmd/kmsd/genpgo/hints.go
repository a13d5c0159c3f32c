package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
)

// hint names calls in one function.
type hint struct {
	file     string            // relative to this folder
	pkg      string            // its import path
	function string            // the caller
	calls    map[string]string // what is called, as in the source, to its name for the linker
}

// hints are the calls to be inlined. Each must say why in the source, and something must fail when it is not.
func hints() []hint {
	return []hint{{
		file:     "../../../kms/envelope/opengcm.go",
		pkg:      "github.com/keyholt/keyholt/kms/envelope",
		function: "openGCM",
		calls: map[string]string{
			"aes.NewCipher":                "crypto/aes.NewCipher",
			"cipher.NewGCMWithRandomNonce": "crypto/cipher.NewGCMWithRandomNonce",
		},
	}}
}

// edge is a call from one place. The compiler knows the place by its distance in lines from the function's first.
type edge struct {
	caller, callee string
	start, line    int // of the caller's first line, and of the call
}

// edges finds the calls in the source, in its order.
func (h *hint) edges() ([]edge, error) {
	files := token.NewFileSet()
	source, err := parser.ParseFile(files, h.file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var edges []edge
	for _, declaration := range source.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Name.Name != h.function {
			continue
		}
		ast.Inspect(function, func(n ast.Node) bool {
			if name, ok := called(n); ok && h.calls[name] != "" {
				edges = append(edges, edge{
					caller: h.pkg + "." + h.function, callee: h.calls[name],
					start: files.Position(function.Pos()).Line, line: files.Position(n.Pos()).Line,
				})
			}
			return true
		})
	}
	if len(edges) != len(h.calls) {
		return nil, fmt.Errorf("%s: %d of %d calls found in %s", h.file, len(edges), len(h.calls), h.function)
	}
	return edges, nil
}

// called is the name of the function of another package that a node calls, such as "aes.NewCipher".
func called(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", false
	}
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	pkg, ok := function.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	return pkg.Name + "." + function.Sel.Name, true
}
