//go:build linux

package pkcs11hsm_test

import (
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
)

// TestFailingOpensDoNotLeak: 20,000 ciphertexts of 32 KiB that do not verify leave
// the process as large as it was. (With a size query and a buffer that is not freed
// on failure it would grow by 640 MiB.)
func TestFailingOpensDoNotLeak(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	r := newRig(t, nil)
	items := make([]hsm.OpenItem, 8)
	sealed := make([]byte, 32<<10)
	for i := range items {
		items[i] = hsm.OpenItem{Nonce: r.sealed.Nonce, Sealed: sealed, AAD: r.sealed.AAD}
	}
	fail := func(n int) {
		for range n / len(items) {
			if err := r.token.Open(t.Context(), r.gcm, items); err != nil {
				t.Fatal(err)
			}
			for _, item := range items {
				if !errors.Is(item.Err, hsm.ErrAuthentication) {
					t.Fatal(item.Err)
				}
			}
		}
	}
	fail(2000)
	before := resident(t)
	fail(20000)
	const bound = 32 << 20 // far from noise, far from the leak
	if grown := resident(t) - before; grown > bound {
		t.Fatalf("the process grew by %d MiB", grown>>20)
	}
}

// resident is the resident set of the process without what Go can give back.
func resident(t *testing.T) int {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
