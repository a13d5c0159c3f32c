package latency_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
	"github.com/keyholt/keyholt/softhsm-test/latency"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setEnv puts the configuration into the environment of this process, where the module
// will read it.
func setEnv(t testing.TB, c latency.Config) {
	t.Helper()
	for _, variable := range c.Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
}

func build(t testing.TB) string {
	t.Helper()
	module, err := latency.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// TestContract runs the contract suite of tokens on SoftHSM2 behind the module.
func TestContract(t *testing.T) {
	setEnv(t, latency.Config{Module: softhsmtest.Require(t)})
	module := build(t)
	hsmtest.Run(t, func(t testing.TB) hsmtest.Fixture {
		token := softhsmtest.NewVia(t, module)
		return hsmtest.Fixture{
			Token:   token.Open(t),
			Another: func(t testing.TB) hsm.Token { return token.Open(t) },
		}
	})
}

// driver is the program of testdata/driver.c with the module before the peer.
type driver struct{ program, peer, module string }

func buildDriver(t *testing.T) driver {
	t.Helper()
	dir := t.TempDir()
	d := driver{filepath.Join(dir, "driver"), filepath.Join(dir, "peer.so"), build(t)}
	compile := func(args ...string) {
		t.Helper()
		compiler := "cc"
		if cc := os.Getenv("CC"); cc != "" {
			compiler = cc
		}
		args = append([]string{"-std=gnu11", "-O1", "-Wall", "-Wextra", "-pthread"}, args...)
		if runtime.GOOS == "linux" {
			args = append(args, "-ldl")
		}
		if out, err := exec.CommandContext(t.Context(), compiler, args...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("compiling %v: %v\n%s", args, err, out)
		}
	}
	compile("-shared", "-fPIC", "-o", d.peer, "testdata/peer.c")
	compile("-o", d.program, "testdata/driver.c")
	return d
}

// run runs a test of the driver and returns its standard error.
func (d driver) run(t *testing.T, test string, env ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a module that hangs
	defer cancel()
	command := exec.CommandContext(ctx, d.program, d.peer, d.module, test)
	command.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	err := command.Run()
	return stderr.String(), err
}

// TestCalls looks at each call from both sides of the module.
func TestCalls(t *testing.T) {
	d := buildDriver(t)
	every := strings.FieldsFunc(functions(t), func(r rune) bool { return r == '\n' })
	for i, f := range every {
		every[i], _, _ = strings.Cut(f, " ")
	}
	every = append(every[:3:3], every[4:]...) // C_GetFunctionList is the module's own
	for _, tt := range []struct {
		name, test string
		config     latency.Config
	}{
		{"undelayed and delayed functions are forwarded", "forward", latency.Config{}},
		{"so is each one that is delayed", "forward", latency.Config{Delay: 100 * time.Microsecond, Calls: every, Served: 1}},
		{"the list is the module's own", "itself", latency.Config{}},
		{"four are served at a time", "four", latency.Config{Served: 4}},
		{"and with a delay", "four", latency.Config{Served: 4, Delay: time.Millisecond}},
		{"a delay holds up its own call only", "blocked", latency.Config{Delay: time.Hour, Calls: []string{"C_GenerateRandom"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Module = d.peer
			if stderr, err := d.run(t, tt.test, tt.config.Env()...); err != nil || stderr != "" {
				t.Fatalf("%v: %s", err, stderr)
			}
		})
	}
}

// TestConfiguration: the module takes what Config writes and what people write, and says
// what is wrong with the rest.
func TestConfiguration(t *testing.T) {
	d := buildDriver(t)
	for _, tt := range []struct {
		name string
		env  []string
		want string // in standard error; empty: none
	}{
		{"the least", []string{}, ""},
		{"milliseconds", []string{"KEYHOLT_LATENCY_DELAY=0.001ms"}, ""},
		{"microseconds", []string{"KEYHOLT_LATENCY_DELAY=1us"}, ""},
		{"zero", []string{"KEYHOLT_LATENCY_DELAY=0"}, ""},
		{"the real module's path is missing", []string{"KEYHOLT_LATENCY_MODULE="}, "KEYHOLT_LATENCY_MODULE is not set"},
		{"no real module", []string{"KEYHOLT_LATENCY_MODULE=/nowhere.so"}, "KEYHOLT_LATENCY_MODULE=/nowhere.so: "},
		{"itself", []string{"KEYHOLT_LATENCY_MODULE=" + d.module}, "that is this module"},
		{"no unit", []string{"KEYHOLT_LATENCY_DELAY=5"}, "DELAY=5: want a duration"},
		{"an unknown unit", []string{"KEYHOLT_LATENCY_DELAY=5m"}, "DELAY=5m: want a duration"},
		{"no number", []string{"KEYHOLT_LATENCY_DELAY=ms"}, "DELAY=ms: want a duration"},
		{"negative", []string{"KEYHOLT_LATENCY_DELAY=-1ms"}, "DELAY=-1ms: want a duration"},
		{"not finite", []string{"KEYHOLT_LATENCY_DELAY=nans"}, "DELAY=nans: want a duration"},
		{"too long", []string{"KEYHOLT_LATENCY_DELAY=3601s"}, "DELAY=3601s: want a duration"},
		{"no function", []string{"KEYHOLT_LATENCY_CALLS=C_Encrypt,C_Encryp"}, "CALLS: C_Encryp is no function"},
		{"a longer name", []string{"KEYHOLT_LATENCY_CALLS=C_Encrypts"}, "CALLS: C_Encrypts is no function"},
		{"not that one", []string{"KEYHOLT_LATENCY_CALLS=C_GetFunctionList"}, "C_GetFunctionList is no function that can be delayed"},
		{"sessions", []string{"KEYHOLT_LATENCY_SESSIONS=4x"}, "SESSIONS=4x: want a number"},
		{"no sessions", []string{"KEYHOLT_LATENCY_SESSIONS="}, "SESSIONS=: want a number"},
		{"negative sessions", []string{"KEYHOLT_LATENCY_SESSIONS=-1"}, "SESSIONS=-1: want a number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stderr, err := d.run(t, "forward", append([]string{"KEYHOLT_LATENCY_MODULE=" + d.peer}, tt.env...)...)
			if (err == nil) != (tt.want == "") || !strings.Contains(stderr, tt.want) {
				t.Fatalf("%v: %s", err, stderr)
			}
			if err != nil && !strings.HasPrefix(stderr, "keyholt latency module: ") {
				t.Errorf("it does not say who speaks: %s", stderr)
			}
		})
	}
}

// functions are the functions of module/functions.h, with their numbers of parameters,
// one a line.
func functions(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("module/functions.h")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, match := range regexp.MustCompile(`\bX\((C_\w+), (\d)\)`).FindAllSubmatch(text, -1) {
		fmt.Fprintf(&b, "%s %s\n", match[1], match[2])
	}
	return b.String()
}

// TestFunctions holds the table of functions against the standard's header, which
// github.com/miekg/pkcs11 carries.
func TestFunctions(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "pkcs11f.h"))
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAll(text, nil)
	declaration := regexp.MustCompile(`(?s)CK_PKCS11_FUNCTION_INFO\((\w+)\)\s*#ifdef CK_NEED_ARG_LIST\s*\(([^)]*)\);`)
	var want strings.Builder
	for _, match := range declaration.FindAllSubmatch(text, -1) {
		fmt.Fprintf(&want, "%s %d\n", match[1], 1+bytes.Count(match[2], []byte(",")))
	}
	if got := functions(t); got != want.String() || got == "" {
		t.Errorf("module/functions.h has\n%swant\n%s", got, want.String())
	}
}

// TestBuildOnce: what is there is not built again, and several may build at once.
func TestBuildOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	var group sync.WaitGroup
	modules := make([]string, 4)
	for i := range modules {
		group.Go(func() {
			var err error
			if modules[i], err = latency.Build(t.Context(), dir); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, module := range modules {
		if module == "" || module != modules[0] {
			t.Fatalf("built %q", modules)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the directory holds %v (%v)", entries, err)
	}
	mark := []byte("not built again")
	if err := os.WriteFile(modules[0], mark, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := latency.Build(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(modules[0]); err != nil || !bytes.Equal(got, mark) {
		t.Fatalf("it was built again (%v)", err)
	}
}

// TestBuildFails: without a compiler, and with one that fails.
func TestBuildFails(t *testing.T) {
	for compiler, want := range map[string]string{
		"no-such-compiler":             "set CC to its name",
		"cc -include no-such-header.h": "no-such-header.h",
	} {
		t.Setenv("CC", compiler)
		dir := t.TempDir()
		_, err := latency.Build(t.Context(), dir)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", compiler, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%s left %v (%v)", compiler, entries, err)
		}
	}
}
