package kms

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Items are in one group per version, in order of first appearance, each group in the
// order of the request, and those without a version are in none.
func TestGroupByVersion(t *testing.T) {
	t.Parallel()
	versions := []*versionEntry{nil, {}, {}, {}, {}}
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOf(rapid.SampledFrom(versions[:rapid.IntRange(1, len(versions)).Draw(t, "choice")])).Draw(t, "items")
		var order []*versionEntry
		want := make(map[*versionEntry][]**versionEntry)
		for i, v := range items {
			if v == nil {
				continue
			}
			if !slices.Contains(order, v) {
				order = append(order, v)
			}
			want[v] = append(want[v], &items[i])
		}
		groups := groupByVersion(items, func(v **versionEntry) *versionEntry { return *v })
		if len(groups) != len(order) {
			t.Fatalf("%d groups of %d versions", len(groups), len(order))
		}
		for i, g := range groups {
			if g.version != order[i] || !slices.Equal(g.items, want[order[i]]) {
				t.Fatalf("group %d of %d has %d items of its version, want %d, or is of another", i, len(groups), len(g.items), len(want[order[i]]))
			}
		}
	})
}
