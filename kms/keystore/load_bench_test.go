package keystore_test

import (
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
)

var benchmarkSizes = []int{100, 10_000}

// fill puts keys of three versions each into a store, every tenth of them STRICT, and
// returns what is then stored.
func fill(b *testing.B, store *keystore.Store, keys int) *kms.Contents {
	b.Helper()
	namespace := keystoretest.Namespace(b, "shop")
	change := &kms.Change{Namespaces: []*kms.Namespace{namespace}}
	for i := range keys {
		profile := kms.ProfileDerived
		if i%10 == 0 {
			profile = kms.ProfileStrict
		}
		key := keystoretest.Key(b, namespace, fmt.Sprintf("key-%d", i), profile)
		key.Primary = 3
		change.Keys = append(change.Keys, key)
		for number := uint32(1); number <= 3; number++ {
			change.Versions = append(change.Versions, keystoretest.Version(key, number))
		}
	}
	if _, err := put(b, store, change); err != nil {
		b.Fatal(err)
	}
	contents, err := store.Load(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return contents
}

func BenchmarkLoad(b *testing.B) {
	for _, keys := range benchmarkSizes {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			_, store := openStore(b, storePath(b))
			fill(b, store, keys)
			b.ReportAllocs()
			for b.Loop() {
				contents, err := store.Load(b.Context())
				if err != nil || len(contents.Versions) != 3*keys {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkUpdate changes one version at a time: its cost must not grow with the store.
func BenchmarkUpdate(b *testing.B) {
	for _, keys := range benchmarkSizes {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			_, store := openStore(b, storePath(b))
			contents := fill(b, store, keys)
			head := contents.Head
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				version := *contents.Versions[i*7919%len(contents.Versions)]
				var err error
				head, err = store.Update(b.Context(), head.Revision, func(*kms.Delta) (*kms.Change, error) {
					return &kms.Change{Versions: []*kms.Version{&version}}, nil
				})
				if err != nil {
					b.Fatal(err)
				}
				version.Revision = head.Revision
				contents.Versions[i*7919%len(contents.Versions)] = &version
			}
		})
	}
}

// BenchmarkFollow learns of one version's change that another has made.
func BenchmarkFollow(b *testing.B) {
	for _, keys := range benchmarkSizes {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			database, store := openStore(b, storePath(b))
			contents := fill(b, store, keys)
			follower, err := database.Store(openSealer)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := follower.Load(b.Context()); err != nil {
				b.Fatal(err)
			}
			version, head := *contents.Versions[0], contents.Head
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				next, err := store.Update(b.Context(), head.Revision, func(*kms.Delta) (*kms.Change, error) {
					return &kms.Change{Versions: []*kms.Version{&version}}, nil
				})
				if err != nil {
					b.Fatal(err)
				}
				version.Revision = next.Revision
				b.StartTimer()
				delta, err := follower.Changes(b.Context(), head.Revision)
				if err != nil || len(delta.Versions) != 1 {
					b.Fatal(err)
				}
				head = delta.Head
			}
		})
	}
}

// BenchmarkReserve reserves encryptions of one version.
func BenchmarkReserve(b *testing.B) {
	_, store := openStore(b, storePath(b))
	uid := sample(b, store).Versions[2].UID
	for b.Loop() {
		if taken, _, err := store.ReserveEncryptions(b.Context(), uid, 1<<16, 1<<60); err != nil || taken != 1<<16 {
			b.Fatal(taken, err)
		}
	}
}

func BenchmarkReseal(b *testing.B) {
	_, store := openStore(b, storePath(b))
	fill(b, store, 10_000)
	for b.Loop() {
		if _, err := store.Reseal(b.Context(), randomUID(nil)); err != nil {
			b.Fatal(err)
		}
	}
}
