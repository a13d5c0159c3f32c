package kms

import (
	"fmt"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// crowdedSnapshot is one of keys that have three versions each.
func crowdedSnapshot(b *testing.B, keys int) (*Snapshot, []KeyName) {
	b.Helper()
	namespace, err := NewNamespaceName(DefaultNamespace)
	if err != nil {
		b.Fatal(err)
	}
	made := time.Now().UTC()
	contents := &Contents{Head: Head{Revision: 1}, Namespaces: []*Namespace{{Name: namespace, CreateTime: made}}}
	names := make([]KeyName, keys)
	for i := range names {
		if names[i], err = NewKeyName(namespace, fmt.Sprintf("k%05d", i)); err != nil {
			b.Fatal(err)
		}
		contents.Keys = append(contents.Keys, &Key{
			Name: names[i], Purpose: PurposeEncryptDecrypt, Algorithm: AlgorithmAES256, Profile: ProfileDerived,
			Primary: 3, RotationPeriod: time.Hour, CreateTime: made,
		})
		for n := range uint32(3) {
			contents.Versions = append(contents.Versions, &Version{
				Name: names[i].Version(n + 1), UID: hsm.UID{byte(i * 7), byte(i >> 8), byte(i), byte(n)},
				State: StateEnabled, CreateTime: made,
			})
		}
	}
	return snapshotOf(contents, nil), names
}

// BenchmarkApply applies a change of one key and one of its versions, as a revocation's
// or a rotation's is.
func BenchmarkApply(b *testing.B) {
	for _, keys := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			now, names := crowdedSnapshot(b, keys)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				key := now.key(names[i*7919%len(names)])
				version := *key.versions[0].Version
				now = now.apply(&Delta{
					Head: Head{Revision: now.Revision() + 1}, Keys: []*Key{key.Clone()}, Versions: []*Version{&version},
				})
			}
		})
	}
}
