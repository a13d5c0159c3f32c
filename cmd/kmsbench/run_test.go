package main

import (
	"os"
	"testing"

	"github.com/keyholt/keyholt/bench"
)

// --rounds counts for every group, also for one that has a number of its own; without it each has its own.
func TestRoundsFlag(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		rounds int
		change func(*int)
	}{
		{0, func(*int) {}},
		{9, func(n *int) { *n = 0 }}, // none of its own: it gets those of the options
	} {
		o, err := (&runFlags{kmsd: program, rounds: tt.rounds}).options()
		if err != nil {
			t.Fatal(err)
		}
		if o.Rounds != tt.rounds || len(o.Groups) != len(bench.Full()) {
			t.Errorf("--rounds %d: %d rounds of %d groups", tt.rounds, o.Rounds, len(o.Groups))
		}
		for i, g := range bench.Full() {
			tt.change(&g.Rounds)
			if o.Groups[i].Rounds != g.Rounds {
				t.Errorf("--rounds %d: group %s has a number of its own, %d", tt.rounds, g.Name, o.Groups[i].Rounds)
			}
		}
	}
}
