package kms

import (
	"crypto"
	"sync"
	"sync/atomic"

	"github.com/keyholt/keyholt/kms/envelope"
)

// liveKey is what the process knows of a version's token object, and is shared by all
// snapshots in which the version appears. The zero value knows nothing.
type liveKey struct {
	used        atomic.Bool                      // FirstUse is durable
	unavailable atomic.Pointer[string]           // why the object cannot be used; nil: it can, as far as is known
	public      atomic.Pointer[crypto.PublicKey] // of pairs: parsed from the row; nil: not yet

	mu      sync.Mutex
	usable  bool             // the state of the version lets its object be used
	checked bool             // the object passed the check value
	mask    envelope.MaskKey // DERIVED: K1 of the version; valid while checked

	quota quota                        // STRICT
	usage atomic.Pointer[versionUsage] // not written to the store yet; nil: never used here
}

// setUsable tells whether the state of the version lets its object be used. Once told
// that it does not, the live key keeps nothing that would help to use it, and a fetch
// that is still under way keeps nothing either.
func (l *liveKey) setUsable(usable bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.usable = usable
	if !usable {
		l.mask.Wipe()
		l.checked = false
	}
}

// cached returns the mask key and whether the object has passed its check.
func (l *liveKey) cached() (envelope.MaskKey, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mask, l.checked
}

// keep caches the mask key of an object that has passed its check.
func (l *liveKey) keep(mask envelope.MaskKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.usable {
		l.mask = mask
		l.checked = true
	}
}

// fail marks the version unavailable.
func (l *liveKey) fail(why string) {
	l.unavailable.Store(&why)
	l.setUsable(false)
}

// recover takes back what fail said: an operator has enabled the version again. What
// was wrong is noticed again when the object is next used.
func (l *liveKey) recover() {
	l.unavailable.Store(nil)
	l.setUsable(true)
}

// rest takes back that the object is off, of a version that may not be used any more: off
// is then as it has to be. Other faults stay.
func (l *liveKey) rest() {
	if l.whyUnavailable() == switchedOff {
		l.unavailable.Store(nil)
	}
}

// whyUnavailable returns the empty string for a version that can be used.
func (l *liveKey) whyUnavailable() string {
	if why := l.unavailable.Load(); why != nil {
		return *why
	}
	return ""
}
