package main

import (
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
	"github.com/keyholt/keyholt/softhsm-test/latency"
	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

// The scripts in testdata run this test binary as kmsd, on a SoftHSM2 token of their own.
// Besides the commands of testscript they have those of scriptCommands.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kmsd": main})
}

func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("there are no scripts (%v)", err)
	}
	// Made here: a script runs in a goroutine that must not fail this test.
	tokens := make(chan *softhsmtest.Token, 2*len(scripts))
	for range cap(tokens) {
		tokens <- softhsmtest.New(t)
	}
	database := pgtest.NewDatabase(t)
	delaying, err := latency.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files:               scripts,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                scriptCommands(),
		Setup: func(env *testscript.Env) error {
			setUpScript(env, <-tokens, <-tokens)
			env.Setenv("DELAYING_MODULE", delaying)
			return setUpDatabase(env, database)
		},
		Condition: func(condition string) (bool, error) {
			if condition == "spy" {
				return spyModule() != "", nil
			}
			return false, errors.New("unknown condition")
		},
	})
}

// setUpScript gives a script two tokens and places for its commands to keep things.
func setUpScript(env *testscript.Env, token, other *softhsmtest.Token) {
	env.Values[processesKey{}] = make(map[string]*process)
	env.Values[heldKey{}] = make(map[string]*heldRequest)
	env.Values[notifyKey{}] = make(map[string]*net.UnixConn)
	env.Values[collectorKey{}] = &spanCollector{seen: make(map[string]bool)}
	for name, value := range map[string]string{
		"MODULE":         token.ModulePath(),
		"SPY":            spyModule(),
		"LABEL":          token.Label(),
		"SERIAL":         token.Serial(),
		"PIN":            token.PIN(),
		"PIN_FILE":       token.PINFile(),
		"OTHER_LABEL":    other.Label(),
		"OTHER_PIN_FILE": other.PINFile(),
		"SOFTHSM2_CONF":  token.Conf(),
	} {
		env.Setenv(name, value)
	}
}

// setUpDatabase tells a script of a PostgreSQL database, which is empty for the first that
// uses it.
func setUpDatabase(env *testscript.Env, dsn string) error {
	address, err := url.Parse(dsn)
	if err != nil {
		return err
	}
	password, _ := address.User.Password()
	env.Setenv("DSN", dsn)
	env.Setenv("DSN_PASSWORD", password)
	env.Setenv("DSN_WITHOUT_PASSWORD", strings.Replace(dsn, ":"+password+"@", "@", 1))
	return nil
}

// spyModule is OpenSC's PKCS#11 module that logs calls on their way to another; empty if
// it is not installed.
func spyModule() string {
	for _, pattern := range []string{
		"/usr/lib/*/pkcs11-spy.so", "/usr/lib64/pkcs11-spy.so", "/usr/lib/pkcs11-spy.so",
		"/opt/homebrew/lib/pkcs11-spy.so", "/usr/local/lib/pkcs11-spy.so",
	} {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

func scriptCommands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	commands := map[string]func(ts *testscript.TestScript, args []string){
		// status CODE PROGRAM ARG...: run the program; it must exit with the code.
		"status": cmdStatus,
		// expand FILE...: put the values of environment variables into the files.
		"expand": cmdExpand,
		// mode FILE MODE: the permissions of the file.
		"mode": cmdMode,
		// count N TEXT FILE: so many lines of the file contain the text.
		"count": cmdCount,
		// sql FILE STATEMENT: change a SQLite database.
		"sql": cmdSQL,
		// psql STATEMENT...: change the PostgreSQL database.
		"psql": cmdPSQL,
		// certificates DIR NAME: make an authority, and certificates for the server NAME and the clients ops and other,
		// with their profiles.
		"certificates": cmdCertificates,

		// launch NAME PROGRAM ARG...: run the program beside the script.
		"launch": cmdLaunch,
		// start NAME PROGRAM ARG...: launch, and wait until its log says that it is ready.
		"start": cmdStart,
		// signal NAME SIGNAL: send the signal to what start has started.
		"signal": cmdSignal,
		// exited NAME CODE: wait for its end; -1 is an end by a signal.
		"exited": cmdExited,
		// logged NAME TEXT: wait until its log contains the text.
		"logged": cmdLogged,
		// unlogged NAME TEXT: its log so far does not contain the text.
		"unlogged": cmdUnlogged,
		// growth NAME allow|forbid: whether the files it writes may grow (RLIMIT_FSIZE), as on a full disk.
		"growth": cmdGrowth,

		// call PROFILE METHOD ARG...: make a request; standard output says OK or code and reason.
		"call": cmdCall,
		// begin NAME PROFILE: begin a request that is under way until finish.
		"begin": cmdBegin,
		// finish NAME: end the request of begin; standard output as call's.
		"finish": cmdFinish,
		// overload PROFILE FILE: while the SQLite database is locked make two requests at once; standard output as
		// call's of the one that is refused.
		"overload": cmdOverload,
		// handshake PROFILE VERSION: a bare TLS handshake up to the version; standard output says OK or the error.
		"handshake": cmdHandshake,
		// fetch NAME PATH: GET from its metrics listener; standard output is status and body.
		"fetch": cmdFetch,
		// collect: receive traces until the script ends, and set COLLECTOR to the address.
		"collect": cmdCollect,
		// collected SPAN: wait until such a span was received.
		"collected": cmdCollected,
		// systemd NAME: be systemd: listen for notifications, and set NOTIFY_SOCKET.
		"systemd": cmdSystemd,
		// notified STATE: the next notification.
		"notified": cmdNotified,
	}
	all := make(map[string]func(*testscript.TestScript, bool, []string), len(commands))
	for name, command := range commands {
		all[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("%s cannot be negated", name)
			}
			command(ts, args)
		}
	}
	return all
}

// need checks the number of arguments: at least that many names.
func need(ts *testscript.TestScript, args []string, names ...string) {
	if len(args) < len(names) {
		ts.Fatalf("arguments: %v", names)
	}
}

func cmdStatus(ts *testscript.TestScript, args []string) {
	need(ts, args, "CODE", "PROGRAM")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdExpand(ts *testscript.TestScript, args []string) {
	need(ts, args, "FILE")
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

func cmdMode(ts *testscript.TestScript, args []string) {
	need(ts, args, "FILE", "MODE")
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	want, err := strconv.ParseUint(args[1], 8, 32)
	ts.Check(err)
	if got := info.Mode().Perm(); got != os.FileMode(want) {
		ts.Fatalf("%s has mode %04o, want %04o", args[0], got, want)
	}
}

func cmdCount(ts *testscript.TestScript, args []string) {
	need(ts, args, "N", "TEXT", "FILE")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := countLines(ts.ReadFile(args[2]), args[1]); got != want {
		ts.Fatalf("%d lines of %s contain %q, want %d", got, args[2], args[1], want)
	}
}

// environment is the script's, for programs that its commands start.
func environment(ts *testscript.TestScript) []string {
	env := []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TMPDIR=" + ts.Getenv("TMPDIR")}
	for _, name := range []string{
		"SOFTHSM2_CONF", softHSMEnv, "NOTIFY_SOCKET", credentialsEnv, "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
		"PKCS11SPY", "PKCS11SPY_OUTPUT", "GOCOVERDIR",
	} {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}
