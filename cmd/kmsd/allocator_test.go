package main

import (
	"slices"
	"testing"
)

func TestAllocatorSetting(t *testing.T) {
	const ours = "glibc.malloc.tcache_count=128"
	for name, test := range map[string]struct{ environment, want []string }{
		"none":          {[]string{"A=1"}, []string{"A=1", "GLIBC_TUNABLES=" + ours}},
		"empty":         {[]string{"GLIBC_TUNABLES=", "A=1"}, []string{"A=1", "GLIBC_TUNABLES=" + ours}},
		"another":       {[]string{"GLIBC_TUNABLES=glibc.malloc.check=1"}, []string{"GLIBC_TUNABLES=glibc.malloc.check=1:" + ours}},
		"the same":      {[]string{"GLIBC_TUNABLES=glibc.malloc.check=1:glibc.malloc.tcache_count=7"}, nil},
		"alike":         {[]string{"MY_GLIBC_TUNABLES=" + ours}, []string{"MY_GLIBC_TUNABLES=" + ours, "GLIBC_TUNABLES=" + ours}},
		"nothing there": {nil, []string{"GLIBC_TUNABLES=" + ours}},
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
