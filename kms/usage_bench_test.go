package kms

import (
	"fmt"
	"testing"
	"time"
)

// Counting one request: a batch of like items is one addition, as one item is.
func BenchmarkUsageAdd(b *testing.B) {
	for name, items := range map[string]int{"one run": 1, "rewrap": 2} {
		b.Run(name, func(b *testing.B) {
			var u usageCounters
			u.init(0)
			source := &versionEntry{Version: &Version{UID: [16]byte{1}}, live: new(liveKey)}
			item := ItemEvent{Count: 256, version: source}
			e := &Event{Time: time.Now(), Action: ActionUnwrapDataKey, Items: []ItemEvent{item}}
			if items == 2 {
				e.Items[0].target = &versionEntry{Version: &Version{UID: [16]byte{2}}, live: new(liveKey)}
			}
			b.ReportAllocs()
			for b.Loop() {
				u.add(e)
			}
		})
	}
	b.Run("many callers", func(b *testing.B) {
		var u usageCounters
		u.init(0)
		source := &versionEntry{Version: &Version{UID: [16]byte{1}}, live: new(liveKey)}
		b.RunParallel(func(pb *testing.PB) {
			e := &Event{Time: time.Now(), Action: ActionDecrypt, Items: []ItemEvent{{Count: 1, version: source}}}
			for pb.Next() {
				u.add(e)
			}
		})
	})
}

// Looking for what is due, among many keys: what each change costs beside its commit.
func BenchmarkDueKeys(b *testing.B) {
	const keys = 10000
	now := newSnapshot()
	namespace, err := NewNamespaceName(DefaultNamespace)
	if err != nil {
		b.Fatal(err)
	}
	s := &Service{destruction: DestructionLimits{}.withDefaults()}
	for i := range keys {
		name, err := NewKeyName(namespace, fmt.Sprintf("k%05d", i))
		if err != nil {
			b.Fatal(err)
		}
		now.keys.Set(keyIndex(name), &keyEntry{Key: &Key{Name: name, Profile: ProfileDerived, Primary: 3, RotationPeriod: time.Hour}})
		for n := range uint32(3) {
			now.putVersion(&Version{
				Name: name.Version(n + 1), UID: [16]byte{byte(i), byte(i >> 8), byte(n)}, State: StateEnabled, CreateTime: time.Now(),
			}, nil)
		}
	}
	b.Run("rotations", func(b *testing.B) {
		for b.Loop() {
			s.rotator.dueKeys(now, time.Now())
		}
	})
	b.Run("destructions", func(b *testing.B) {
		for b.Loop() {
			s.dueForDestruction(now, time.Now())
		}
	})
}
