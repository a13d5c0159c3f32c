package kms

import "testing"

func TestCounted(t *testing.T) {
	for n, want := range map[int]string{0: "0 versions", 1: "1 version", 2: "2 versions"} {
		if got := Counted(n, "version"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
