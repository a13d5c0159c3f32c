package keystore_test

import (
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
)

// BenchmarkLoad loads keys of three versions each, every tenth of them STRICT.
func BenchmarkLoad(b *testing.B) {
	for _, keys := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			_, store := openStore(b, storePath(b))
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

// BenchmarkCommit commits one new version at a time: the cost is that of the sync.
func BenchmarkCommit(b *testing.B) {
	_, store := openStore(b, storePath(b))
	change := sample(b, store)
	number := uint32(2)
	for b.Loop() {
		number++
		if _, err := put(b, store, &kms.Change{Versions: []*kms.Version{keystoretest.Version(change.Keys[0], number)}}); err != nil {
			b.Fatal(err)
		}
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
