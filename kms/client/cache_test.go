package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/kms"
)

func newTestCache(t *testing.T, l CacheLimits) *keyCache {
	t.Helper()
	var caches keyCaches
	cache, err := caches.open("cache", &l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(caches.close)
	return cache
}

func idOf(n int) cacheID {
	var id cacheID
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

func dataKeyOf(n int) DataKey {
	return DataKey{Key: bytes.Repeat([]byte{byte(n + 1)}, 32), Wrapped: []byte{byte(n)}}
}

// held returns the memory in which the cache holds a key.
func held(k *keyCache, id cacheID) kms.Secret {
	k.mu.Lock()
	defer k.mu.Unlock()
	return entryOf(k.entries[id]).key.Key
}

func requireWiped(t *testing.T, secrets ...kms.Secret) {
	t.Helper()
	for i, secret := range secrets {
		if !bytes.Equal(secret, make([]byte, 32)) {
			t.Errorf("key %d was not wiped", i)
		}
	}
}

func TestCacheGivesCopies(t *testing.T) {
	cache, key := newTestCache(t, CacheLimits{}), dataKeyOf(1)
	cache.put(idOf(1), key, time.Now())
	key.Key.Wipe() // the caller's own
	for range 2 {
		found, ok := cache.get(idOf(1))
		if want := dataKeyOf(1); !ok || !bytes.Equal(found.Key, want.Key) || !bytes.Equal(found.Wrapped, want.Wrapped) {
			t.Fatalf("found %v: %x, %x", ok, []byte(found.Key), found.Wrapped)
		}
		found.Key.Wipe()
		clear(found.Wrapped)
	}
	if _, ok := cache.get(idOf(2)); ok {
		t.Error("found what was never put")
	}
}

func TestCacheBoundsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := newTestCache(t, CacheLimits{MaxAge: 10 * time.Second})
		cache.put(idOf(1), dataKeyOf(1), time.Now())
		first := held(cache, idOf(1))
		<-time.After(6 * time.Second)
		cache.put(idOf(2), dataKeyOf(2), time.Now().Add(-5*time.Second)) // its answer was slow
		second := held(cache, idOf(2))
		cache.put(idOf(3), dataKeyOf(3), time.Now().Add(-10*time.Second)) // and this one's too slow
		if _, ok := cache.get(idOf(3)); ok {
			t.Error("the age does not count from when the service was asked")
		}
		cache.put(idOf(1), dataKeyOf(4), time.Now()) // does not make it younger
		<-time.After(4*time.Second - 1)
		if _, ok := cache.get(idOf(1)); !ok {
			t.Error("gone before its time")
		}
		<-time.After(1)
		synctest.Wait()
		requireWiped(t, first) // without anybody asking
		if _, ok := cache.get(idOf(1)); ok {
			t.Error("found after its time")
		}
		if _, ok := cache.get(idOf(2)); !ok {
			t.Error("the next was dropped with it")
		}
		<-time.After(time.Second)
		synctest.Wait()
		requireWiped(t, second)
		if len(cache.entries) != 0 || cache.byAge.Len() != 0 {
			t.Errorf("%d entries are left", len(cache.entries))
		}
	})
}

func TestCacheBoundsUses(t *testing.T) {
	cache := newTestCache(t, CacheLimits{MaxUses: 3})
	cache.put(idOf(1), dataKeyOf(1), time.Now()) // the first use
	secret := held(cache, idOf(1))
	for use, want := range []bool{true, true, false} {
		if _, ok := cache.get(idOf(1)); ok != want {
			t.Errorf("use %d: found %v", use+2, ok)
		}
	}
	requireWiped(t, secret)

	once := newTestCache(t, CacheLimits{MaxUses: 1})
	once.put(idOf(1), dataKeyOf(1), time.Now())
	if _, ok := once.get(idOf(1)); ok {
		t.Error("a second use of one")
	}
}

func TestCacheBoundsCount(t *testing.T) {
	cache := newTestCache(t, CacheLimits{MaxKeys: 3})
	var secrets []kms.Secret
	for i := range 5 {
		cache.put(idOf(i), dataKeyOf(i), time.Now())
		secrets = append(secrets, held(cache, idOf(i)))
	}
	requireWiped(t, secrets[:2]...)
	for i := range 5 {
		if _, ok := cache.get(idOf(i)); ok != (i >= 2) {
			t.Errorf("key %d found: %v", i, ok)
		}
	}
}

func TestClosedCacheIsEmpty(t *testing.T) {
	var caches keyCaches
	cache, err := caches.open("cache", &CacheLimits{})
	if err != nil {
		t.Fatal(err)
	}
	cache.put(idOf(1), dataKeyOf(1), time.Now())
	secret := held(cache, idOf(1))
	caches.close()
	requireWiped(t, secret)
	late, err := caches.open("cache", &CacheLimits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*keyCache{cache, late} {
		c.put(idOf(2), dataKeyOf(2), time.Now())
		if len(c.entries) != 0 {
			t.Error("a closed cache took a key")
		}
	}
}

// A cached key is the answer to its own input and binding only.
func TestCacheIDs(t *testing.T) {
	var pool dataKeyCalls
	cache := newTestCache(t, CacheLimits{})
	seen := make(map[cacheID]string)
	for _, input := range []string{"", "a", "ab"} {
		for name, binding := range map[string]kms.Binding{
			"none": {}, "context": {Context: map[string]string{"a": "b"}},
			"data": {AAD: []byte("ab")}, "both": {Context: map[string]string{"a": "b"}, AAD: []byte("ab")},
		} {
			c, err := pool.get(kms.KeyName{}, []byte(input), binding)
			if err != nil {
				t.Fatal(err)
			}
			what := input + " with " + name
			if other, ok := seen[cache.id(c)]; ok {
				t.Errorf("%q and %q have one id", what, other)
			}
			seen[cache.id(c)] = what
		}
	}
}

func TestCacheLimitsRefuse(t *testing.T) {
	for _, l := range []CacheLimits{
		{MaxKeys: -1}, {MaxKeys: maxCacheKeys + 1}, {MaxAge: -1}, {MaxAge: maxCacheAge + 1}, {MaxUses: -1}, {MaxUses: maxCacheUses + 1},
	} {
		var caches keyCaches
		if _, err := caches.open("cache", &l); !errors.Is(err, kms.ErrInvalidRequest) {
			t.Errorf("%+v: got %v", l, err)
		}
	}
}
