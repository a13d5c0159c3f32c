//go:build !linux

package main

import "github.com/rogpeppe/go-internal/testscript"

// cmdGrowth needs the limits of another process, which only Linux lets one set: scripts
// ask for [linux] first.
func cmdGrowth(ts *testscript.TestScript, _ []string) {
	ts.Fatalf("growth is for Linux")
}
