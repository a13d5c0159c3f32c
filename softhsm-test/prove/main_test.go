package prove

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// flags are how a proof is run. The zero value is that of a plain test run.
type flags struct {
	n      int    // how many changes, rotations or disturbances; 0: a few
	bounds bool   // assert times too
	seed   uint64 // of the random choices; 0: another one each time
	out    string // file for the closing line
	keep   string // directory in which logs and audit files are left; empty: none are
	kmsd   string // program to run; empty: built from this source
}

var (
	given flags
	// program is where build puts the server.
	program string
)

func TestMain(m *testing.M) {
	flag.IntVar(&given.n, "prove.n", 0, "how many changes, rotations or disturbances (0: a few)")
	flag.BoolVar(&given.bounds, "prove.bounds", false, "assert times too")
	flag.Uint64Var(&given.seed, "prove.seed", 0, "seed of the random choices (0: another one each time)")
	flag.StringVar(&given.out, "prove.out", "", "file that the closing line is written to")
	flag.StringVar(&given.keep, "prove.keep", "", "directory in which logs and audit files are left")
	flag.StringVar(&given.kmsd, "prove.kmsd", "", "server program (default: built from this source)")
	flag.Parse()
	dir, err := os.MkdirTemp("", "keyholt-prove-")
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return // package testing makes that a failure
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is in the system's directory for that
	program = filepath.Join(dir, "kmsd")
	m.Run() // the exit code is package testing's affair
}

// build builds the server once for all tests.
var build = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/kmsd")
	command.Dir = filepath.Join("..", "..")
	command.Env = append(os.Environ(), "CGO_ENABLED=1")
	if text, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("building kmsd: %w\n%s", err, text)
	}
	return nil
})

// server is the path of the program.
func server(t *testing.T) string {
	t.Helper()
	if given.kmsd != "" {
		return given.kmsd
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return program
}

// count is the number that was asked for, or that of a plain test run.
func count(short int) int {
	if given.n > 0 {
		return given.n
	}
	return short
}

// newRandom is the source of the random choices of a test.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := given.seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("random choices: -prove.seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// closing writes the closing line of a proof that has not failed.
func closing(t *testing.T, format string, args ...any) {
	t.Helper()
	if t.Failed() {
		return
	}
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	if given.out == "" {
		return
	}
	if err := os.WriteFile(given.out, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pause waits for a while, and reports whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
