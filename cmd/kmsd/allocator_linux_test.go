package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestKmsdBeginsAnewForTheAllocator looks at the environment of the process that serves.
func TestKmsdBeginsAnewForTheAllocator(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		given string
		want  []string
	}{
		"not set": {"GLIBC_TUNABLES=glibc.malloc.arena_max=3", []string{"arena_max=3", "tcache_count=128", begunAnew + "=1"}},
		"set":     {"GLIBC_TUNABLES=glibc.malloc.tcache_count=9", []string{"tcache_count=9"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), program)
			cmd.Args = []string{"kmsd", "dev", "--data-dir", filepath.Join(t.TempDir(), "data")}
			cmd.Env = append(os.Environ(), test.given)
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			output, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Error(err)
				}
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
			}()
			lines := bufio.NewScanner(output)
			for ready := false; !ready && lines.Scan(); {
				ready = strings.HasPrefix(lines.Text(), "kmsd is ready")
			}
			environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			// glibc may have cut the variable into its settings.
			for _, setting := range []string{"arena_max=3", "tcache_count=9", "tcache_count=128", begunAnew + "=1"} {
				if got := bytes.Contains(environment, []byte(setting)); got != slices.Contains(test.want, setting) {
					t.Errorf("%s: %v, want %v", setting, got, !got)
				}
			}
		})
	}
}
