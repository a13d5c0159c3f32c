package bench

import (
	"context"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
)

// Environment is the machine and the versions that a report is about.
type Environment struct {
	CPU         string            `json:"cpu"`
	Cores       int               `json:"cores"` // that this process may use
	MemoryMiB   int               `json:"memory_mib,omitempty"`
	OS          string            `json:"os"`
	Arch        string            `json:"arch"`
	Kernel      string            `json:"kernel"`
	Go          string            `json:"go"`
	Version     string            `json:"version"` // of kmsd
	GitRevision string            `json:"git_revision"`
	GitModified bool              `json:"git_modified"`
	Token       string            `json:"token"` // model, as the module tells
	Module      string            `json:"module"`
	Modules     map[string]string `json:"modules"` // versions of the libraries that matter most
}

// notableModules are the libraries whose version explains a change of the figures.
var notableModules = map[string]bool{
	"google.golang.org/grpc": true, "google.golang.org/protobuf": true, "modernc.org/sqlite": true,
	"github.com/HdrHistogram/hdrhistogram-go": true,
}

// environment describes this machine and a kmsd.
func environment(ctx context.Context, kmsd string) Environment {
	e := Environment{
		CPU: cpuModel(), Cores: runtime.GOMAXPROCS(0), MemoryMiB: memoryMiB(),
		OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(),
		Kernel: output(ctx, "uname", "-sr"), Version: output(ctx, kmsd, "version"),
		GitRevision: output(ctx, "git", "rev-parse", "HEAD"),
		GitModified: output(ctx, "git", "status", "--porcelain", "--untracked-files=no") != "",
		Modules:     map[string]string{},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if notableModules[m.Path] {
				e.Modules[m.Path] = m.Version
			}
		}
	}
	return e
}

// output is the first line that a command prints; "" if it cannot be run.
func output(ctx context.Context, name string, args ...string) string {
	//nolint:gosec // fixed names, and the program that the operator has named
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}
