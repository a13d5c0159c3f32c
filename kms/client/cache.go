package client

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
)

// CacheLimits bounds a cache of plaintext data keys. Zero fields are the defaults. A key
// leaves the cache at the first bound that it meets, and is wiped then.
//
// MaxAge is also for how long a revocation does not reach the keys that this process
// holds: the service cannot take back what it has given out.
type CacheLimits struct {
	// MaxKeys is how many keys the cache holds; the oldest goes first. Default 1,000,
	// at most 1,000,000.
	MaxKeys int
	// MaxAge is how long a key is kept. Default 10 seconds, at most one hour.
	MaxAge time.Duration
	// MaxUses is how often a key is used, the first time included. Default 1,000, at most
	// [envelope.MaxMessagesPerKey].
	MaxUses int
}

const (
	defaultCacheKeys = 1000
	defaultCacheAge  = 10 * time.Second
	defaultCacheUses = 1000

	maxCacheKeys = 1_000_000
	maxCacheAge  = time.Hour
	maxCacheUses = envelope.MaxMessagesPerKey
)

// WithUnwrapCache makes Unwrap and Open remember data keys, and answer from memory for
// the same wrapped key and binding. It is off by default: while a key is remembered,
// neither revocation nor policy nor the audit log knows of its use.
func WithUnwrapCache(l CacheLimits) DataKeysOption {
	return func(o *dataKeysOptions) { o.unwrapped = &l }
}

// WithSealReuse makes Seal use a data key for several messages with the same encryption
// context. It is off by default: who gets hold of one message's data key can read them
// all, and a revoked key is sealed with until the age ends.
func WithSealReuse(l CacheLimits) DataKeysOption {
	return func(o *dataKeysOptions) { o.sealing = &l }
}

func (l CacheLimits) withDefaults(what string) (CacheLimits, error) {
	var wrong []kms.Violation
	refuse := func(field string, value, most any) {
		wrong = append(wrong, kms.Violation{
			Field: what + ": " + field, Description: fmt.Sprintf("%v is negative or more than %v", value, most),
		})
	}
	if l.MaxKeys < 0 || l.MaxKeys > maxCacheKeys {
		refuse("MaxKeys", l.MaxKeys, maxCacheKeys)
	}
	if l.MaxAge < 0 || l.MaxAge > maxCacheAge {
		refuse("MaxAge", l.MaxAge, maxCacheAge)
	}
	if l.MaxUses < 0 || l.MaxUses > maxCacheUses {
		refuse("MaxUses", l.MaxUses, maxCacheUses)
	}
	if len(wrong) > 0 {
		return l, kms.Invalid(wrong...)
	}
	if l.MaxKeys == 0 {
		l.MaxKeys = defaultCacheKeys
	}
	if l.MaxAge == 0 {
		l.MaxAge = defaultCacheAge
	}
	if l.MaxUses == 0 {
		l.MaxUses = defaultCacheUses
	}
	return l, nil
}

// keyCache holds plaintext data keys.
type keyCache struct {
	limits CacheLimits

	mu      sync.Mutex
	entries map[cacheID]*list.Element // of *cacheEntry
	byAge   *list.List                // oldest first
	expiry  *time.Timer               // of the oldest; nil until the first key comes
	closed  bool
}

// cacheID is a digest of everything that must be the same for a cached key to be the
// answer, the binding above all: a key found without its binding would not be bound.
type cacheID [sha256.Size]byte

type cacheEntry struct {
	id      cacheID
	key     DataKey
	uses    int
	expires time.Time
}

func newKeyCache(l CacheLimits) *keyCache {
	return &keyCache{limits: l, entries: make(map[cacheID]*list.Element), byAge: list.New()}
}

// id is the digest of a call's input and binding.
func (*keyCache) id(c *dataKeyCall) cacheID {
	h := sha256.New()
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(c.input))
	h.Write(size[:])
	h.Write(c.data)
	var id cacheID
	h.Sum(id[:0])
	return id
}

// get returns a copy of a key, and counts a use.
func (k *keyCache) get(id cacheID) (DataKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	element, ok := k.entries[id]
	if !ok {
		return DataKey{}, false
	}
	entry := entryOf(element)
	if !time.Now().Before(entry.expires) {
		k.drop(element)
		return DataKey{}, false
	}
	found := entry.key.clone()
	if entry.uses++; entry.uses >= k.limits.MaxUses {
		k.drop(element)
	}
	return found, true
}

// put adds a copy of a key that has been used once. Its age counts from when the service
// was asked for it: it was not revoked then. One that is there already stays, with its
// age and its uses.
func (k *keyCache) put(id cacheID, key DataKey, asked time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := time.Until(asked.Add(k.limits.MaxAge))
	if _, known := k.entries[id]; known || k.closed || left <= 0 || k.limits.MaxUses == 1 {
		return
	}
	for k.byAge.Len() >= k.limits.MaxKeys {
		k.drop(k.byAge.Front())
	}
	element := k.insert(&cacheEntry{id: id, key: key.clone(), uses: 1, expires: asked.Add(k.limits.MaxAge)})
	k.entries[id] = element
	switch {
	case k.byAge.Front() != element: // the timer is set for an older one
	case k.expiry == nil:
		k.expiry = time.AfterFunc(left, k.expire)
	default:
		k.expiry.Reset(left)
	}
}

// insert keeps the order of age; the answers to those who asked at about the same time
// come in any order.
func (k *keyCache) insert(entry *cacheEntry) *list.Element {
	for at := k.byAge.Back(); at != nil; at = at.Prev() {
		if !entryOf(at).expires.After(entry.expires) {
			return k.byAge.InsertAfter(entry, at)
		}
	}
	return k.byAge.PushFront(entry)
}

// expire drops the keys whose time has come, also if nobody asks for any.
func (k *keyCache) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for oldest := k.byAge.Front(); oldest != nil; oldest = k.byAge.Front() {
		if left := time.Until(entryOf(oldest).expires); left > 0 {
			k.expiry.Reset(left)
			return
		}
		k.drop(oldest)
	}
}

// drop removes a key and wipes it. The cache is locked.
func (k *keyCache) drop(element *list.Element) {
	entry := entryOf(element)
	k.byAge.Remove(element)
	delete(k.entries, entry.id)
	entry.key.Key.Wipe()
}

func (k *keyCache) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for k.byAge.Len() > 0 {
		k.drop(k.byAge.Front())
	}
	if k.expiry != nil {
		k.expiry.Stop()
	}
}

func entryOf(element *list.Element) *cacheEntry {
	entry, _ := element.Value.(*cacheEntry) // nothing else is put into the list
	return entry
}

func (d DataKey) clone() DataKey {
	return DataKey{Key: bytes.Clone(d.Key), Wrapped: bytes.Clone(d.Wrapped)}
}

// keyCaches are the caches of a client, which it wipes when it is closed.
type keyCaches struct {
	mu     sync.Mutex
	all    []*keyCache
	closed bool
}

// open makes a cache, or none for no limits.
func (k *keyCaches) open(what string, l *CacheLimits) (*keyCache, error) {
	if l == nil {
		return nil, nil // no cache is what was asked for
	}
	limits, err := l.withDefaults(what)
	if err != nil {
		return nil, err
	}
	cache := newKeyCache(limits)
	k.mu.Lock()
	defer k.mu.Unlock()
	cache.closed = k.closed
	k.all = append(k.all, cache)
	return cache, nil
}

func (k *keyCaches) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for _, cache := range k.all {
		cache.close()
	}
}
