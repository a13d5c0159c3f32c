package main

import (
	"slices"
	"testing"
)

func TestAllocatorSetting(t *testing.T) {
	const ours = "glibc.malloc.tcache_count=127" // the most that every glibc takes
	for name, test := range map[string]struct{ environment, want []string }{
		"none":           {[]string{"A=1"}, []string{"A=1", "GLIBC_TUNABLES=" + ours}},
		"empty":          {[]string{"GLIBC_TUNABLES=", "A=1"}, []string{"A=1", "GLIBC_TUNABLES=" + ours}},
		"another":        {[]string{"GLIBC_TUNABLES=glibc.malloc.check=1"}, []string{"GLIBC_TUNABLES=glibc.malloc.check=1:" + ours}},
		"the same":       {[]string{"GLIBC_TUNABLES=glibc.malloc.check=1:glibc.malloc.tcache_count=7"}, nil},
		"alike":          {[]string{"MY_GLIBC_TUNABLES=" + ours}, []string{"MY_GLIBC_TUNABLES=" + ours, "GLIBC_TUNABLES=" + ours}},
		"begun anew":     {[]string{"GLIBC_TUNABLES=", begunAnew + "=1"}, nil},
		"marked by hand": {[]string{begunAnew + "="}, nil},
		"nothing there":  {nil, []string{"GLIBC_TUNABLES=" + ours}},
	} {
		t.Run(name, func(t *testing.T) {
			given := slices.Clone(test.environment)
			got, changed := withKeptBlocks(test.environment)
			if !slices.Equal(test.environment, given) {
				t.Error("the environment that was given is changed")
			}
			if changed != (test.want != nil) || changed && !slices.Equal(got, test.want) {
				t.Errorf("%q, %v; want %q", got, changed, test.want)
			}
			if again, changed := withKeptBlocks(got); changed {
				t.Errorf("a second time: %q", again)
			}
		})
	}
}

func TestCanBeginAnew(t *testing.T) {
	// The entries that getauxval(3) names AT_BASE, AT_UID, AT_EUID, AT_GID and AT_EGID.
	vector := func(base, uid, euid, gid, egid uintptr) [][2]uintptr {
		return [][2]uintptr{{7, base}, {11, uid}, {12, euid}, {13, gid}, {14, egid}, {0, 0}}
	}
	for name, test := range map[string]struct {
		vector [][2]uintptr
		want   bool
	}{
		"a program":                   {vector(0x7f0000000000, 1000, 1000, 100, 100), true},
		"an argument of the loader":   {vector(0, 1000, 1000, 100, 100), false},
		"set-user-ID":                 {vector(0x7f0000000000, 1000, 0, 100, 100), false},
		"set-group-ID":                {vector(0x7f0000000000, 1000, 1000, 100, 0), false},
		"a kernel that tells nothing": {nil, false},
	} {
		if got := canBeginAnew(test.vector); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
