package pkcs11hsm

import (
	"fmt"
	"sync"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

const (
	// lookupInterval is the least time between two searches of the token for the
	// same UID, and between two enumerations.
	lookupInterval = time.Second
	// The waits between searches for a key that was known and seems to be gone or another
	// one, each four times as long as the one before: 1, 4 and 16 ms. SoftHSM2 empties an
	// object's file before it writes it anew, and who reads it then has an object without some
	// or all of its attributes.
	firstSearchWait = time.Millisecond
	lastSearchWait  = 16 * time.Millisecond
	// maxMisses is the most UIDs that are remembered as not found. When so many
	// were searched for within an interval, no more are.
	maxMisses = 256
	// maxWitnesses is by how many keys a token is recognised.
	maxWitnesses = 1024
)

// keyHandle is one key as the hot path needs it.
type keyHandle struct {
	handle     objectHandle // of the secret or private key; 0 if there is none
	public     objectHandle // of the public key of a pair; 0 if there is none
	spec       hsm.KeySpec
	sessionKey bool // gone with the anchor session
	ambiguous  bool // objects have this UID that are not one key
}

// finder searches the token. Its calls are made with a session of the caller's.
type finder interface {
	// find returns the key with this UID; ok is false if the token, being logged
	// in, holds none.
	find(uid hsm.UID) (k keyHandle, ok bool, err error)
	// enumerate returns every key of the token.
	enumerate() (map[hsm.UID]keyHandle, error)
}

// handleTable maps UIDs to object handles, so that requests do not search the
// token: it is enumerated once, and after the handles were lost. A UID that is not
// in the table is searched for once, which is how a key that another process made
// is found; somebody who sends unknown UIDs cannot cause more than one search per
// UID and interval, and no more than maxMisses in all. What is no key of ours is searched
// for again after the interval: it may have been read while it was written.
type handleTable struct {
	mu      sync.RWMutex
	keys    map[hsm.UID]keyHandle
	strange map[hsm.UID]time.Time   // when those of keys that have no specification were found
	lost    map[hsm.UID]hsm.KeySpec // of keys that were forgotten
	misses  map[hsm.UID]time.Time
	stale   bool // enumerate before the next search

	searching  sync.Mutex // one search of the token at a time
	enumerated time.Time  // guarded by searching
}

func newHandleTable() *handleTable {
	return &handleTable{
		keys: make(map[hsm.UID]keyHandle), strange: make(map[hsm.UID]time.Time),
		lost: make(map[hsm.UID]hsm.KeySpec), misses: make(map[hsm.UID]time.Time), stale: true,
	}
}

func (h *handleTable) get(uid hsm.UID) (keyHandle, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	k, ok := h.keys[uid]
	return k, ok
}

// getOurs is get for keys that have a specification.
func (h *handleTable) getOurs(uid hsm.UID) (keyHandle, bool) {
	k, ok := h.get(uid)
	return k, ok && k.spec != 0
}

// getLately is get without what had no specification and was found some time ago.
func (h *handleTable) getLately(uid hsm.UID) (keyHandle, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	k, ok := h.keys[uid]
	at, strange := h.strange[uid]
	return k, ok && (!strange || time.Since(at) < lookupInterval)
}

// lookup returns the handle of a key: from the table or, if need be and the limits
// allow, from the token. hsm.ErrKeyNotFound if there is none.
func (h *handleTable) lookup(uid hsm.UID, f finder) (keyHandle, error) {
	k, ok := h.getLately(uid)
	if !ok {
		var err error
		if k, err = h.search(uid, f); err != nil {
			return keyHandle{}, err
		}
	}
	if k.ambiguous {
		return keyHandle{}, fmt.Errorf("%w: several objects of the token have the UID %s", hsm.ErrKeyNotPermitted, uid)
	}
	return k, nil
}

func (h *handleTable) search(uid hsm.UID, f finder) (keyHandle, error) {
	h.searching.Lock()
	defer h.searching.Unlock()
	if err := h.renew(f); err != nil {
		return keyHandle{}, err
	}
	if k, ok := h.getLately(uid); ok {
		return k, nil
	}
	if err := h.admitSearch(uid); err != nil {
		return keyHandle{}, err
	}
	k, ok, err := h.find(uid, f)
	if err != nil {
		return keyHandle{}, err
	}
	if !ok {
		h.missed(uid)
		return keyHandle{}, fmt.Errorf("%w: %s", hsm.ErrKeyNotFound, uid)
	}
	h.put(uid, k)
	return k, nil
}

// find searches for a key. One that was forgotten and is not found as it was is searched for
// again. The caller holds searching.
func (h *handleTable) find(uid hsm.UID, f finder) (k keyHandle, ok bool, err error) {
	h.mu.RLock()
	was := h.lost[uid]
	h.mu.RUnlock()
	for wait := firstSearchWait; ; wait *= 4 {
		k, ok, err = f.find(uid)
		if err != nil || was == 0 || ok && k.spec == was || wait > lastSearchWait {
			return k, ok, err
		}
		time.Sleep(wait) //nolint:forbidigo // 21 ms in all, in a call into the module, which no context ends
	}
}

// missed records that the token does not hold a key.
func (h *handleTable) missed(uid hsm.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.misses[uid] = time.Now()
	delete(h.keys, uid)
	delete(h.strange, uid)
	delete(h.lost, uid)
}

// renew enumerates the token if the handles were lost, and not again within the
// interval: searches for single keys serve until then. The caller holds searching.
func (h *handleTable) renew(f finder) error {
	h.mu.RLock()
	stale := h.stale
	h.mu.RUnlock()
	if !stale || !h.enumerated.IsZero() && time.Since(h.enumerated) < lookupInterval {
		return nil
	}
	keys, err := f.enumerate()
	if err != nil {
		return err
	}
	h.enumerated = time.Now()
	h.replace(keys)
	return nil
}

// replace makes keys the content of the table, beside the session keys.
func (h *handleTable) replace(keys map[hsm.UID]keyHandle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for uid, k := range h.keys {
		if _, ok := keys[uid]; k.sessionKey && !ok {
			keys[uid] = k
		}
	}
	h.keys, h.stale = keys, false
	clear(h.misses)
	clear(h.strange)
	clear(h.lost)
	for uid, k := range keys {
		if k.spec == 0 {
			h.strange[uid] = time.Now()
		}
	}
}

// admitSearch decides whether the token is searched for a UID.
func (h *handleTable) admitSearch(uid hsm.UID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if at, ok := h.misses[uid]; ok && now.Sub(at) < lookupInterval {
		return fmt.Errorf("%w: %s", hsm.ErrKeyNotFound, uid)
	}
	if len(h.misses) < maxMisses {
		return nil
	}
	for missed, at := range h.misses {
		if now.Sub(at) >= lookupInterval {
			delete(h.misses, missed)
		}
	}
	if len(h.misses) >= maxMisses {
		return fmt.Errorf("%w: too many searches for unknown keys", hsm.ErrUnavailable)
	}
	return nil
}

// put records a key.
func (h *handleTable) put(uid hsm.UID, k keyHandle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[uid] = k
	delete(h.misses, uid)
	delete(h.lost, uid)
	delete(h.strange, uid)
	if k.spec == 0 {
		h.strange[uid] = time.Now()
	}
}

// remove drops a key that was destroyed.
func (h *handleTable) remove(uid hsm.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.keys, uid)
	delete(h.strange, uid)
	delete(h.lost, uid)
}

// forget drops a key whose handle turned out to be stale.
func (h *handleTable) forget(uid hsm.UID, handle objectHandle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k, ok := h.keys[uid]; ok && k.handle == handle {
		delete(h.keys, uid)
		delete(h.strange, uid)
		if k.spec != 0 {
			h.lost[uid] = k.spec
		}
	}
}

// reset drops every handle: after a lost login or module a number may name another
// object than before. Session keys are kept, since no enumeration would find them;
// dropSessionKeys is for when they are gone.
func (h *handleTable) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for uid, k := range h.keys {
		if !k.sessionKey {
			delete(h.keys, uid)
		}
	}
	h.stale = true
	clear(h.misses)
	clear(h.strange)
	clear(h.lost)
}

// tokenKeys are the keys in the table that are in the token, up to maxWitnesses.
func (h *handleTable) tokenKeys() []hsm.UID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var uids []hsm.UID
	for uid, k := range h.keys {
		if !k.sessionKey && len(uids) < maxWitnesses {
			uids = append(uids, uid)
		}
	}
	return uids
}

// dropSessionKeys drops the keys that ended with the anchor session.
func (h *handleTable) dropSessionKeys() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for uid, k := range h.keys {
		if k.sessionKey {
			delete(h.keys, uid)
		}
	}
}
