package kms

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// docs/lifecycle.md has the table of states as it decides: what a version in each may be
// used for, and which action leads where.
func TestStatesAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/lifecycle.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(text)
	var uses, moves strings.Builder
	for _, s := range allStates {
		answer := func(u use) string {
			if s.allows(u) {
				return "yes"
			}
			return "no"
		}
		fmt.Fprintf(&uses, "| `%s` | %s | %s | %s |\n", s, answer(useSeal), answer(useOpen), answer(useRewrap))
		for _, action := range slices.Sorted(maps.Keys(states[s].leavesBy)) {
			names := make([]string, 0, 2)
			for _, next := range states[s].leavesBy[action] {
				names = append(names, "`"+next.String()+"`")
			}
			fmt.Fprintf(&moves, "| `%s` | `%s` | %s |\n", s, action, strings.Join(names, " or "))
		}
	}
	for _, table := range []string{uses.String(), moves.String()} {
		if !strings.Contains(document, table) {
			t.Errorf("docs/lifecycle.md does not have the rows\n%s", table)
		}
	}
}
