package main

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
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
		"not set": {"GLIBC_TUNABLES=glibc.malloc.arena_max=3", []string{"arena_max=3", "tcache_count=127", begunAnew + "=1"}},
		"set":     {"GLIBC_TUNABLES=glibc.malloc.tcache_count=9", []string{"tcache_count=9"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), program)
			cmd.Args = []string{"kmsd", "dev", "--data-dir", filepath.Join(t.TempDir(), "data")}
			cmd.Env = append(os.Environ(), test.given)
			environment := startDev(t, cmd)
			// glibc may have cut the variable into its settings.
			for _, setting := range []string{"arena_max=3", "tcache_count=9", "tcache_count=127", begunAnew + "=1"} {
				if got := strings.Contains(environment, setting); got != slices.Contains(test.want, setting) {
					t.Errorf("%s: %v, want %v", setting, got, !got)
				}
			}
		})
	}
}

// startDev starts kmsd dev, which the end of the test's context ends, and returns the
// environment of the process when it serves.
func startDev(t *testing.T, cmd *exec.Cmd) (environment string) {
	t.Helper()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Wait(); !errors.Is(err, context.Canceled) { // else it ended as it should
			t.Error(err)
		}
	})
	lines, ready := bufio.NewScanner(output), false
	for !ready && lines.Scan() {
		ready = strings.HasPrefix(lines.Text(), "kmsd is ready")
	}
	if !ready {
		t.Fatal("it does not serve")
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestKmsdServesWhereItCannotBeginAnew is a program that there is no executing again; for the
// second time it would be another.
func TestKmsdServesWhereItCannotBeginAnew(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const fewFiles = 300
	for name, start := range map[string]func(t *testing.T, kmsd string) *exec.Cmd{
		"its file is gone": func(t *testing.T, kmsd string) *exec.Cmd {
			opened := openDeleted(t, program)
			if err := os.Symlink("/proc/self/fd/3", kmsd); err != nil {
				t.Fatal(err)
			}
			// Go raises the limit, which must stay.
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", fmt.Sprintf(`ulimit -S -n %d; exec "$@"`, fewFiles), "sh", kmsd)
			cmd.ExtraFiles = []*os.File{opened}
			return cmd
		},
		"it is an argument of the loader": func(t *testing.T, kmsd string) *exec.Cmd {
			if err := os.Symlink(program, kmsd); err != nil {
				t.Fatal(err)
			}
			return exec.CommandContext(t.Context(), interpreter(t, program), kmsd)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := start(t, filepath.Join(dir, "kmsd"))
			cmd.Args = append(cmd.Args, "dev", "--data-dir", filepath.Join(dir, "data"))
			if environment := startDev(t, cmd); strings.Contains(environment, begunAnew) {
				t.Error("it began anew")
			}
			var files unix.Rlimit
			if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &files); err != nil {
				t.Fatal(err)
			}
			if files.Cur+1 < files.Max || files.Max <= fewFiles {
				t.Errorf("it may open %d files of %d", files.Cur, files.Max)
			}
		})
	}
}

// openDeleted returns a copy of a program that no name leads to.
func openDeleted(t *testing.T, program string) *os.File {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(copied, text, 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(copied)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	return file
}

// interpreter is the dynamic loader that a program names.
func interpreter(t *testing.T, program string) string {
	t.Helper()
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := file.Section(".interp").Data()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(string(text), "\x00")
}
