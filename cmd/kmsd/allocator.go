package main

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

const (
	// tunables is the variable from which glibc takes its settings when a process starts.
	tunables = "GLIBC_TUNABLES"
	// keptBlocks is the setting of how many freed blocks of each size a thread keeps for
	// itself; glibc's own value is 7.
	keptBlocks = "glibc.malloc.tcache_count"
	// keptBlocksWanted is about what one operation of SoftHSM2 frees: it makes more than a
	// hundred small allocations. Measured on a derivation of 32 bytes, one thread, in
	// microseconds of CPU: 10.8 with 7, 9.3 with 32, 9.0 with 64 and with 128. Before version
	// 2.30 glibc counts them in a signed char: it ignores more than 127, and where it does
	// not (https://sourceware.org/bugzilla/show_bug.cgi?id=24531) an assertion fails.
	keptBlocksWanted = 127
	// begunAnew is in the environment of a process that began once more: it never does so
	// twice, whatever the C library makes of its settings.
	begunAnew = "KMSD_BEGUN_ANEW"
)

// tuneAllocator has the C library's allocator keep more for each thread: the PKCS#11 module
// lives in this process. glibc reads its settings only at the start of a process, so the
// program begins once more, before it has done anything. Where the environment has the
// setting already, or there is no beginning anew, nothing happens.
func tuneAllocator(*cobra.Command, []string) {
	environment, changed := withKeptBlocks(os.Environ())
	vector, err := unix.Auxv()
	if !changed || err != nil || runtime.GOOS != "linux" || !canBeginAnew(vector) {
		return
	}
	if program, err := os.Executable(); err == nil {
		begin(program, append(environment, begunAnew+"=1"))
	}
}

// begin executes the program in this process. It returns only if that failed; then all is
// as it was.
func begin(program string, environment []string) {
	var files syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	_ = syscall.Exec(program, os.Args, environment) //nolint:gosec // this program
	if err == nil {
		// Go raises the limit when a process starts; Exec puts back what it was before.
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
	}
}

// canBeginAnew tells from what the kernel has told this process at its start, see
// getauxval(3), whether the executable file, with the same arguments, is this program again.
// It is not where the file is the dynamic loader, which was given the program's as an
// argument. And a program that has more rights than who started it must not hand them to a
// file by its name, which may be another by now.
func canBeginAnew(vector [][2]uintptr) bool {
	const base, uid, euid, gid, egid = 7, 11, 12, 13, 14 // AT_BASE and so on, of elf.h
	told := make(map[uintptr]uintptr, len(vector))
	for _, entry := range vector {
		told[entry[0]] = entry[1]
	}
	// A loader that was executed itself has none that is loaded at a base.
	return told[base] != 0 && told[uid] == told[euid] && told[gid] == told[egid]
}

// withKeptBlocks adds the setting to an environment that does not have it, unless it is that
// of a process that began once more.
func withKeptBlocks(environment []string) (with []string, changed bool) {
	if slices.ContainsFunc(environment, func(v string) bool { return strings.HasPrefix(v, begunAnew+"=") }) {
		return environment, false
	}
	setting := keptBlocks + "=" + strconv.Itoa(keptBlocksWanted)
	for i, variable := range environment {
		value, ok := strings.CutPrefix(variable, tunables+"=")
		if !ok {
			continue
		}
		if strings.Contains(value, keptBlocks+"=") {
			return environment, false
		}
		if value != "" {
			setting = value + ":" + setting
		}
		with = append(with, environment[:i]...)
		with = append(with, environment[i+1:]...)
		return append(with, tunables+"="+setting), true
	}
	return append(environment[:len(environment):len(environment)], tunables+"="+setting), true
}
