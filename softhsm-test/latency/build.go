package latency

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// sources are in a directory of their own: beside Go files without cgo, go build refuses
// files in C.
//
//go:embed module/functions.h module/latency.c
var sources embed.FS

// Build compiles the module into dir, which it makes if need be, and returns its
// absolute path. The file is named for all that it is made from: where it exists it is
// used as it is. The compiler is $CC, or cc. Build may be called concurrently, by several
// processes too.
func Build(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("build the latency module: %w", err)
	}
	name, err := fileName()
	if err != nil {
		return "", fmt.Errorf("build the latency module: %w", err)
	}
	module := filepath.Join(dir, name)
	if _, err := os.Stat(module); err == nil {
		return module, nil
	}
	if err := compile(ctx, dir, module); err != nil {
		return "", fmt.Errorf("build the latency module: %w", err)
	}
	return module, nil
}

// compile compiles in a directory of its own in dir, and moves the finished module to its
// name: there is never half a module under it.
func compile(ctx context.Context, dir, module string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	work, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.CopyFS(work, sources); err != nil {
		return err
	}
	line := commandLine()
	command := exec.CommandContext(ctx, line[0], line[1:]...)
	command.Dir = work
	if out, err := command.CombinedOutput(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("%w: a C compiler is needed; set CC to its name", err)
		}
		return fmt.Errorf("%s: %w\n%s", line[0], err, bytes.TrimSpace(out))
	}
	return os.Rename(filepath.Join(work, output), module)
}

// output is the file that the compiler writes.
const output = "latency.so"

// commandLine is the compiler and its arguments, run where the directory of the sources
// is. CC may hold arguments of its own, such as "ccache gcc".
func commandLine() []string {
	line := strings.Fields(os.Getenv("CC"))
	if len(line) == 0 {
		line = []string{"cc"}
	}
	line = append(line, "-std=gnu11", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden", "-pthread",
		"-o", output, "module/latency.c")
	if runtime.GOOS == "linux" {
		line = append(line, "-ldl") // part of libc elsewhere, and on Linux since glibc 2.34
	}
	return line
}

// fileName is latency- and a hash of sources, command line and platform.
func fileName() (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %s %q\n", runtime.GOOS, runtime.GOARCH, commandLine())
	err := fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := sources.ReadFile(path)
		_, _ = fmt.Fprintf(h, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		return "", err
	}
	return "latency-" + hex.EncodeToString(h.Sum(nil)[:8]) + ".so", nil
}
