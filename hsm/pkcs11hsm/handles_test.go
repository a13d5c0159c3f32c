package pkcs11hsm

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// fakeFinder is a token that counts how often it is searched.
type fakeFinder struct {
	keys         map[hsm.UID]keyHandle
	finds        int
	enumerations int
	err          error
}

func (f *fakeFinder) find(uid hsm.UID) (keyHandle, bool, error) {
	f.finds++
	k, ok := f.keys[uid]
	return k, ok, f.err
}

func (f *fakeFinder) enumerate() (map[hsm.UID]keyHandle, error) {
	f.enumerations++
	copied := make(map[hsm.UID]keyHandle)
	for uid, k := range f.keys {
		copied[uid] = k
	}
	return copied, f.err
}

func (f *fakeFinder) want(t *testing.T, enumerations, finds int) {
	t.Helper()
	if f.enumerations != enumerations || f.finds != finds {
		t.Fatalf("%d enumerations and %d finds, want %d and %d", f.enumerations, f.finds, enumerations, finds)
	}
}

func uidOf(n int) hsm.UID { return hsm.UID{byte(n >> 8), byte(n)} }

func TestHandlesEnumerateOnce(t *testing.T) {
	f := &fakeFinder{keys: map[hsm.UID]keyHandle{}}
	for n := range 100 {
		f.keys[uidOf(n)] = keyHandle{handle: objectHandle(n), spec: hsm.AES256Blocks}
	}
	h := newHandleTable()
	for range 3 {
		for n := range 100 {
			if k, err := h.lookup(uidOf(n), f); err != nil || k.handle != objectHandle(n) {
				t.Fatalf("key %d: %+v %v", n, k, err)
			}
		}
	}
	f.want(t, 1, 0)
}

// TestHandlesUnknownUIDs: unknown UIDs cost one search each and interval, and no
// more than maxMisses in all.
func TestHandlesUnknownUIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFinder{}
		h := newHandleTable()
		for range 10 {
			if _, err := h.lookup(uidOf(1), f); !errors.Is(err, hsm.ErrKeyNotFound) {
				t.Fatal(err)
			}
		}
		f.want(t, 1, 1)
		<-time.After(lookupInterval)
		if _, err := h.lookup(uidOf(1), f); !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Fatal(err)
		}
		f.want(t, 1, 2)
		for n := range 3 * maxMisses {
			_, err := h.lookup(uidOf(1000+n), f)
			if !errors.Is(err, hsm.ErrKeyNotFound) && !errors.Is(err, hsm.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if f.finds > maxMisses+1 {
			t.Fatalf("%d searches for unknown keys", f.finds)
		}
		// A key that is known is not hindered, and afterwards all is as before.
		h.put(uidOf(7), keyHandle{handle: 7})
		if _, err := h.lookup(uidOf(7), f); err != nil {
			t.Fatal(err)
		}
		<-time.After(lookupInterval)
		f.keys = map[hsm.UID]keyHandle{uidOf(1000): {handle: 5}}
		if k, err := h.lookup(uidOf(1000), f); err != nil || k.handle != 5 {
			t.Fatalf("%+v %v", k, err)
		}
	})
}

// TestHandlesNewKey: a key that another process made is found by one search.
func TestHandlesNewKey(t *testing.T) {
	f := &fakeFinder{keys: map[hsm.UID]keyHandle{}}
	h := newHandleTable()
	_, _ = h.lookup(uidOf(1), f)
	f.keys[uidOf(2)] = keyHandle{handle: 2}
	for range 3 {
		if k, err := h.lookup(uidOf(2), f); err != nil || k.handle != 2 {
			t.Fatalf("%+v %v", k, err)
		}
	}
	f.want(t, 1, 2)
}

func TestHandlesReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFinder{keys: map[hsm.UID]keyHandle{uidOf(1): {handle: 1}, uidOf(2): {handle: 2}}}
		h := newHandleTable()
		h.put(uidOf(9), keyHandle{handle: 9, sessionKey: true})
		if _, err := h.lookup(uidOf(1), f); err != nil {
			t.Fatal(err)
		}
		// Lost at once again: within the interval keys are searched for one by one.
		h.reset()
		f.keys[uidOf(1)] = keyHandle{handle: 11}
		if k, err := h.lookup(uidOf(1), f); err != nil || k.handle != 11 {
			t.Fatalf("%+v %v", k, err)
		}
		f.want(t, 1, 1)
		// Later the token is enumerated.
		<-time.After(lookupInterval)
		h.reset()
		for _, n := range []int{1, 2} {
			if _, err := h.lookup(uidOf(n), f); err != nil {
				t.Fatal(err)
			}
		}
		f.want(t, 2, 1)
		// No enumeration shows a session key, so it stays until told otherwise.
		if k, err := h.lookup(uidOf(9), f); err != nil || k.handle != 9 {
			t.Fatalf("%+v %v", k, err)
		}
		h.dropSessionKeys()
		if _, err := h.lookup(uidOf(9), f); !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Fatal(err)
		}
	})
}

func TestHandlesForgetOnlyTheStale(t *testing.T) {
	f := &fakeFinder{}
	h := newHandleTable()
	h.put(uidOf(1), keyHandle{handle: 5})
	h.forget(uidOf(1), 4) // somebody else has already found the new handle
	if k, err := h.lookup(uidOf(1), f); err != nil || k.handle != 5 {
		t.Fatalf("%+v %v", k, err)
	}
	h.forget(uidOf(1), 5)
	if _, err := h.lookup(uidOf(1), f); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Fatal(err)
	}
}

// TestHandlesAmbiguous: which of two objects with one UID is meant cannot be known.
func TestHandlesAmbiguous(t *testing.T) {
	f := &fakeFinder{keys: map[hsm.UID]keyHandle{uidOf(1): {handle: 1, ambiguous: true}}}
	if _, err := newHandleTable().lookup(uidOf(1), f); !errors.Is(err, hsm.ErrKeyNotPermitted) {
		t.Fatal(err)
	}
}

func TestHandlesErrorIsNoAbsence(t *testing.T) {
	f := &fakeFinder{err: newCallError("C_FindObjects", ckrNotLoggedIn)}
	h := newHandleTable()
	for range 2 {
		if _, err := h.lookup(uidOf(1), f); !errors.Is(err, hsm.ErrLoginLost) {
			t.Fatal(err)
		}
	}
	f.err, f.keys = nil, map[hsm.UID]keyHandle{uidOf(1): {handle: 1}}
	if _, err := h.lookup(uidOf(1), f); err != nil {
		t.Fatal(err)
	}
}

// writtenFinder is a token whose one key is being written: each search finds the next of what
// is found, or nothing where that is zero, and the last again and again.
type writtenFinder struct {
	fakeFinder
	found []keyHandle
}

func (f *writtenFinder) find(hsm.UID) (keyHandle, bool, error) {
	f.finds++
	k := f.found[min(f.finds, len(f.found))-1]
	return k, k.handle != 0, nil
}

// TestHandlesKeyBeingWritten: a key that was known is searched for again if it seems to be
// gone, or to be another, when its handle has turned out to be stale.
func TestHandlesKeyBeingWritten(t *testing.T) {
	ours := keyHandle{handle: 6, public: 7, spec: hsm.ECDSAP256}
	for name, c := range map[string]struct {
		found []keyHandle
		finds int
	}{
		"there":                    {[]keyHandle{ours}, 1},
		"gone":                     {[]keyHandle{{}, ours}, 2},
		"without attributes":       {[]keyHandle{{handle: 6}, {handle: 6}, ours}, 3},
		"gone, without attributes": {[]keyHandle{{}, {}, {handle: 6, public: 7}, ours}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &writtenFinder{found: c.found}
				h := newHandleTable()
				h.replace(map[hsm.UID]keyHandle{uidOf(1): {handle: 5, spec: hsm.ECDSAP256}})
				h.forget(uidOf(1), 5)
				for range 3 {
					if k, err := h.lookup(uidOf(1), f); err != nil || k != ours {
						t.Fatalf("%+v %v", k, err)
					}
				}
				f.want(t, 0, c.finds)
			})
		})
	}
}

// TestHandlesLost: a key that was known and is gone for good costs a few searches, and then
// no more than one that never was.
func TestHandlesLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &writtenFinder{found: []keyHandle{{}}}
		h := newHandleTable()
		h.replace(map[hsm.UID]keyHandle{uidOf(1): {handle: 5, spec: hsm.AES256GCM}})
		h.forget(uidOf(1), 5)
		for _, finds := range []int{4, 5, 6} {
			for range 3 {
				if _, err := h.lookup(uidOf(1), f); !errors.Is(err, hsm.ErrKeyNotFound) {
					t.Fatal(err)
				}
			}
			f.want(t, 0, finds)
			<-time.After(lookupInterval)
		}
	})
}

// TestHandlesStrange: what seems to be no key of ours is searched for again after the interval,
// and may be one then.
func TestHandlesStrange(t *testing.T) {
	for _, enumerated := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			strange, ours := keyHandle{handle: 6}, keyHandle{handle: 6, spec: hsm.HMACSHA256}
			f := &writtenFinder{found: []keyHandle{strange, ours}}
			h := newHandleTable()
			h.replace(map[hsm.UID]keyHandle{})
			if enumerated {
				h.replace(map[hsm.UID]keyHandle{uidOf(1): strange})
				f.found = []keyHandle{ours}
			}
			for range 3 {
				if k, err := h.lookup(uidOf(1), f); err != nil || k != strange {
					t.Fatalf("%+v %v", k, err)
				}
			}
			for range 3 {
				<-time.After(lookupInterval)
				if k, err := h.lookup(uidOf(1), f); err != nil || k != ours {
					t.Fatalf("%+v %v", k, err)
				}
			}
			f.want(t, 0, len(f.found))
		})
	}
}
