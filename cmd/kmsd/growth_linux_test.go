package main

import (
	"math"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdGrowth stops the files that a process writes from growing, as a full disk does.
func cmdGrowth(ts *testscript.TestScript, args []string) {
	need(ts, args, "NAME", "allow|forbid")
	limit := uint64(math.MaxUint64) // RLIM_INFINITY
	if args[1] == "forbid" {
		limit = 1
	}
	pid := processNamed(ts, args[0]).command.Process.Pid
	ts.Check(unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: math.MaxUint64}, nil))
}
