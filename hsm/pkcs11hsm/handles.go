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
// UID and interval, and no more than maxMisses in all.
type handleTable struct {
	mu     sync.RWMutex
	keys   map[hsm.UID]keyHandle
	misses map[hsm.UID]time.Time
	stale  bool // enumerate before the next search

	searching  sync.Mutex // one search of the token at a time
	enumerated time.Time  // guarded by searching
}

func newHandleTable() *handleTable {
	return &handleTable{keys: make(map[hsm.UID]keyHandle), misses: make(map[hsm.UID]time.Time), stale: true}
}

func (h *handleTable) get(uid hsm.UID) (keyHandle, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	k, ok := h.keys[uid]
	return k, ok
}

// lookup returns the handle of a key: from the table or, if need be and the limits
// allow, from the token. hsm.ErrKeyNotFound if there is none.
func (h *handleTable) lookup(uid hsm.UID, f finder) (keyHandle, error) {
	k, ok := h.get(uid)
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
	if k, ok := h.get(uid); ok {
		return k, nil
	}
	if err := h.admitSearch(uid); err != nil {
		return keyHandle{}, err
	}
	k, ok, err := f.find(uid)
	if err != nil {
		return keyHandle{}, err
	}
	if !ok {
		h.mu.Lock()
		h.misses[uid] = time.Now()
		h.mu.Unlock()
		return keyHandle{}, fmt.Errorf("%w: %s", hsm.ErrKeyNotFound, uid)
	}
	h.put(uid, k)
	return k, nil
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
}

// remove drops a key that was destroyed.
func (h *handleTable) remove(uid hsm.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.keys, uid)
}

// forget drops a key whose handle turned out to be stale.
func (h *handleTable) forget(uid hsm.UID, handle objectHandle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k, ok := h.keys[uid]; ok && k.handle == handle {
		delete(h.keys, uid)
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
