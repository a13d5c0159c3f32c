package bench

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// buildKmsd builds the program that is measured, once.
func buildKmsd(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(kmsd); err == nil {
		return kmsd
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", kmsd, "../cmd/kmsd")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	return kmsd
}

// small is every way of making requests, once.
func small() []Group {
	delayed := Server{HSMLatency: time.Millisecond, Sessions: 2, OneCallEach: true}
	open := with(unary, func(s *Scenario) { s.Load = 0.2 })
	list := []Scenario{
		{Operation: Unwrap, Batch: 16, Callers: 2},
		{Operation: Unwrap, Batch: 16, Callers: 2, Server: echoServer},
		{Operation: Unwrap, Batch: 16, Callers: 2, Profile: Strict, Context: 2},
		{Operation: Unwrap, Batch: 16, Callers: 2, Keys: 3},
		{Operation: Unwrap, Batch: 1, Callers: 4, Server: delayed},
		via(Merged, unary),
		via(Lean, unary),
	}
	for _, op := range []Operation{Generate, Rewrap, Encrypt, Decrypt} {
		for _, server := range []Server{{}, echoServer} {
			for _, batch := range []int{1, 8} {
				list = append(list, Scenario{Operation: op, Batch: batch, Callers: 2, Server: server})
			}
		}
	}
	for _, algorithm := range []Algorithm{P256, RSA2048} {
		one := Scenario{Operation: Sign, Algorithm: algorithm, Batch: 1, Callers: 2}
		list = append(list, one, with(one, func(s *Scenario) { s.Batch = 8 }),
			with(one, func(s *Scenario) { s.Callers, s.Server = 0, tokenAlone }))
	}
	return []Group{
		{Name: "closed", Scenarios: append(list, unary)},
		{Name: "open", Scenarios: []Scenario{open, on(echoServer, open)}, Rounds: 1},
		{Name: "versions", Scenarios: []Scenario{on(Server{Versions: 5}, unary)}, Rounds: 1},
	}
}

func TestSmallSuiteOnRealProcesses(t *testing.T) {
	softhsmtest.Require(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var last Event
	report, err := Run(t.Context(), Options{
		Suite: "small", Groups: small(), Rounds: 2, Window: 40 * time.Millisecond, WarmUp: 10 * time.Millisecond,
		KMSD: buildKmsd(t), Echo: []string{self, echoArgument}, TempDir: dir, TokenRates: true,
		Progress: func(e Event) { last = e },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Scenarios {
		if s.FirstFail != "" || s.Median.ItemsPerSecond <= 0 || s.Median.P50 <= 0 {
			t.Errorf("%s: %v items/s, p50 %v µs, first error %q", s.Name, s.Median.ItemsPerSecond, s.Median.P50, s.FirstFail)
		}
		if wants := !s.Scenario.Server.Echo && !s.Scenario.Server.Token; wants != (s.Median.TokenCalls != nil) {
			t.Errorf("%s: token calls %v", s.Name, s.Median.TokenCalls)
		}
	}
	if last.Done != last.Total || last.Done == 0 {
		t.Errorf("%d of %d runs were made", last.Done, last.Total)
	}
	if one := report.find(small()[0].Scenarios[0].Name()); one.Median.TokenCalls == nil || *one.Median.TokenCalls > 1.0/8 {
		t.Errorf("a batch of 16 took %v token calls an item", *one.Median.TokenCalls)
	}
	for _, s := range report.Scenarios {
		for _, round := range s.Rounds {
			if share := round.OthersCPU; share < 0 || share > 1 {
				t.Errorf("%s: others took %v of the machine", s.Name, share)
			}
		}
	}
	e := report.Environment
	if e.Cores == 0 || e.Go == "" || e.Version == "" || e.Token == "" || e.Kernel == "" {
		t.Errorf("the environment is incomplete: %+v", e)
	}
	var token struct{ Figures []tokenFigure }
	if err := json.Unmarshal(report.Token, &token); err != nil || len(token.Figures) == 0 {
		t.Errorf("the token's rates: %v, %d figures", err, len(token.Figures))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the run left %v behind (%v)", left, err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	softhsmtest.Require(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(ctx, Options{
		Groups: []Group{{Name: "endless", Scenarios: []Scenario{unary, unaryEcho}, Rounds: 1, Window: time.Hour}},
		KMSD:   buildKmsd(t), Echo: []string{self, echoArgument}, TempDir: dir,
		Progress: func(e Event) {
			if e.Text == "endless: starting a server for "+unaryEcho.Name() {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the run left %v behind (%v)", left, err)
	}
}

func TestProcessesThatDoNotStart(t *testing.T) {
	for name, kmsd := range map[string]string{
		"no such program":   filepath.Join(t.TempDir(), "kmsd"),
		"not what it seems": "/bin/false",
	} {
		_, err := Run(t.Context(), Options{Groups: Quick(), KMSD: kmsd, Echo: []string{"false"}, TempDir: t.TempDir()})
		if !errors.Is(err, ErrProcess) {
			t.Errorf("%s: error %v, want %v", name, err, ErrProcess)
		}
	}
}
