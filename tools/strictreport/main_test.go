package main

import (
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	const (
		start = `{"Action":"start","Package":"p"}` + "\n"
		begin = `{"Action":"run","Package":"p","Test":"TestA"}` + "\n" +
			`{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}` + "\n" +
			`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: said\n"}` + "\n"
		passed = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
		failed = `{"Action":"fail","Package":"p","Test":"TestA"}` + "\n"
		skip   = `{"Action":"skip","Package":"p","Test":"TestA"}` + "\n"
		good   = `{"Action":"output","Package":"p","Output":"PASS\n"}` + "\n" +
			`{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}` + "\n" +
			`{"Action":"pass","Package":"p"}` + "\n"
		bad = `{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}` + "\n" +
			`{"Action":"fail","Package":"p"}` + "\n"
		empty = `{"Action":"output","Package":"q","Output":"?   \tq\t[no test files]\n"}` + "\n" +
			`{"Action":"skip","Package":"q"}` + "\n"
		build = `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: undefined: x\n"}` + "\n"
	)
	tests := []struct {
		name, in, out string
		wantErr       string // part of it; empty: none
	}{
		{"a passed test is not printed", start + begin + passed + good, "ok  \tp\t0.1s\n", ""},
		{"a failed test is printed", start + begin + failed + bad, "    a_test.go:3: said\nFAIL\tp\t0.1s\n", ""},
		{"a skipped test fails the run", start + begin + skip + good,
			"    a_test.go:3: said\nok  \tp\t0.1s\n", "p.TestA"},
		{"a test that never ended is printed", start + begin + bad, "FAIL\tp\t0.1s\n    a_test.go:3: said\n", "no test was run"},
		{"a package without tests is no skipped test", start + begin + passed + good + empty,
			"ok  \tp\t0.1s\n?   \tq\t[no test files]\n", ""},
		{"a build failure is printed", build + bad, "p.go:1: undefined: x\nFAIL\tp\t0.1s\n", "no test was run"},
		{"other lines are printed", "go: warning\n" + begin + passed, "go: warning\n", ""},
		{"a last line without its end is read", start + begin + strings.TrimSuffix(skip, "\n"), "    a_test.go:3: said\n", "p.TestA"},
		{"no input", "", "", "no test was run"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			err := run(strings.NewReader(tt.in), &out)
			if out.String() != tt.out {
				t.Errorf("printed %q, want %q", out.String(), tt.out)
			}
			switch {
			case tt.wantErr == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)):
				t.Errorf("error %v, want one with %q", err, tt.wantErr)
			}
		})
	}
}
