package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Lines that move within a function would leave a profile that names other calls, without a word from the compiler.
func TestTheProfileIsOfTheSource(t *testing.T) {
	fresh := filepath.Join(t.TempDir(), "fresh.pgo")
	if err := write(fresh); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(fresh)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../default.pgo")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("cmd/kmsd/default.pgo is not of this source: run go generate ./cmd/kmsd/genpgo")
	}
}

func TestCallsThatAreNotThere(t *testing.T) {
	h := hints()[0]
	h.function = "noSuchFunction"
	if _, err := h.edges(); err == nil {
		t.Error("calls were found in a function that does not exist")
	}
}
