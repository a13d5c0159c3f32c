package kmstest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

func testDataKeys(t *testing.T, s *suite) {
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		const n = 300
		generated := s.mustGenerate(name, n)
		seen := make(map[string]bool, n)
		items := make([]kms.DataKeyItem, n)
		for i, r := range generated {
			if len(r.DataKey) != 32 || seen[string(r.DataKey)] || r.Version != name.Version(1) {
				t.Fatalf("data key %d: %d bytes, repeated %v, version %s", i, len(r.DataKey), seen[string(r.DataKey)], r.Version)
			}
			seen[string(r.DataKey)] = true
			items[i].Wrapped = r.Wrapped
		}
		for i, r := range s.mustUnwrap(items...) {
			if r.Err != nil || !bytes.Equal(r.DataKey, generated[i].DataKey) || r.Version != name.Version(1) || r.Wrapped != nil {
				t.Fatalf("unwrapped key %d: error %v, equal %v", i, r.Err, bytes.Equal(r.DataKey, generated[i].DataKey))
			}
		}
		sealed, err := s.Admin.API.GenerateDataKeys(s.ctx, s.Admin.Principal,
			&kms.GenerateDataKeysRequest{Key: name, Count: 2, WithoutPlaintext: true})
		wantOK(t, err, "GenerateDataKeys without plaintext")
		for _, r := range sealed {
			if r.DataKey != nil || r.Err != nil {
				t.Fatalf("without plaintext: %d bytes, error %v", len(r.DataKey), r.Err)
			}
			if got := s.mustUnwrap(kms.DataKeyItem{Wrapped: r.Wrapped})[0]; got.Err != nil || len(got.DataKey) != 32 {
				t.Fatalf("it unwraps to %d bytes, error %v", len(got.DataKey), got.Err)
			}
		}
	}
	_, err := s.Admin.API.GenerateDataKeys(s.ctx, s.Admin.Principal, &kms.GenerateDataKeysRequest{Key: s.key("absent")})
	wantError(t, err, kms.ErrKeyNotFound, "GenerateDataKeys under no key")
}

func testDataKeySizes(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	for _, size := range []int{16, 24, 64} {
		r, err := s.Admin.API.GenerateDataKeys(s.ctx, s.Admin.Principal, &kms.GenerateDataKeysRequest{Key: name, Size: size})
		wantOK(t, err, fmt.Sprintf("GenerateDataKeys of %d bytes", size))
		if len(r) != 1 || len(r[0].DataKey) != size {
			t.Fatalf("size %d: %d results, %d bytes", size, len(r), len(r[0].DataKey))
		}
	}
	for _, size := range []int{-1, 15, 65} {
		_, err := s.Admin.API.GenerateDataKeys(s.ctx, s.Admin.Principal, &kms.GenerateDataKeysRequest{Key: name, Size: size})
		wantViolation(t, err, "size", fmt.Sprintf("GenerateDataKeys of %d bytes", size))
	}
}

func testWrapDataKeys(t *testing.T, s *suite) {
	one, two := s.mustCreate("one", kms.ProfileDerived), s.mustCreate("two", kms.ProfileStrict)
	own := kms.Binding{Context: map[string]string{"row": "2"}}
	request := &kms.WrapDataKeysRequest{Parent: one.Namespace(), Key: one, Binding: kms.Binding{AAD: []byte("all")}, Items: []kms.DataKeyItem{
		{DataKey: bytes.Repeat([]byte{1}, 32)},
		{DataKey: bytes.Repeat([]byte{2}, 16), Key: two},
		{DataKey: bytes.Repeat([]byte{3}, 64), Binding: &own},
		{DataKey: bytes.Repeat([]byte{4}, 15)},
		{DataKey: bytes.Repeat([]byte{5}, 32), Key: s.key("absent")},
	}}
	wrapped, err := s.Admin.API.WrapDataKeys(s.ctx, s.Admin.Principal, request)
	wantOK(t, err, "WrapDataKeys")
	if !bytes.Equal(request.Items[0].DataKey, bytes.Repeat([]byte{1}, 32)) {
		t.Fatal("WrapDataKeys changed the caller's key")
	}
	wantViolation(t, wrapped[3].Err, "data_key", "WrapDataKeys of 15 bytes")
	wantError(t, wrapped[4].Err, kms.ErrKeyNotFound, "WrapDataKeys under no key")
	if wrapped[0].Version != one.Version(1) || wrapped[1].Version != two.Version(1) {
		t.Fatalf("wrapped under %s and %s", wrapped[0].Version, wrapped[1].Version)
	}
	unwrapped, err := s.Admin.API.UnwrapDataKeys(s.ctx, s.Admin.Principal, &kms.UnwrapDataKeysRequest{
		Parent: one.Namespace(), Binding: kms.Binding{AAD: []byte("all")}, Items: []kms.DataKeyItem{
			{Wrapped: wrapped[0].Wrapped}, {Wrapped: wrapped[1].Wrapped, Key: two}, {Wrapped: wrapped[2].Wrapped, Binding: &own},
			{Wrapped: wrapped[2].Wrapped}, {Wrapped: wrapped[0].Wrapped, Binding: &kms.Binding{}},
		},
	})
	wantOK(t, err, "UnwrapDataKeys")
	for i := range 3 {
		if unwrapped[i].Err != nil || !bytes.Equal(unwrapped[i].DataKey, request.Items[i].DataKey) {
			t.Fatalf("item %d: error %v, %d bytes", i, unwrapped[i].Err, len(unwrapped[i].DataKey))
		}
	}
	wantError(t, unwrapped[3].Err, kms.ErrDecryptionFailed, "an item without its own binding")
	wantError(t, unwrapped[4].Err, kms.ErrDecryptionFailed, "an item whose empty binding replaces the request's")
}

func testBatchLimits(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	name := s.mustCreate("orders", kms.ProfileDerived)
	_, err := s.unwrap()
	wantViolation(t, err, "items", "UnwrapDataKeys of nothing")
	one := s.mustGenerate(name, 1)[0].Wrapped
	items := make([]kms.DataKeyItem, kms.MaxItems+1)
	for i := range items {
		items[i].Wrapped = one
	}
	_, err = s.unwrap(items...)
	wantError(t, err, kms.ErrLimitExceeded, "UnwrapDataKeys of too many")
	for i, r := range s.mustUnwrap(items[:kms.MaxItems]...) {
		wantOK(t, r.Err, fmt.Sprintf("item %d of the most", i))
	}
	s.mustGenerate(name, kms.MaxItems)
	for _, count := range []int{-1, kms.MaxItems + 1} {
		if _, err = api.GenerateDataKeys(s.ctx, admin, &kms.GenerateDataKeysRequest{Key: name, Count: count}); err == nil {
			t.Fatalf("GenerateDataKeys of %d succeeded", count)
		}
	}
	_, err = api.RewrapDataKeys(s.ctx, admin, &kms.RewrapDataKeysRequest{Parent: name.Namespace()})
	wantViolation(t, err, "items", "RewrapDataKeys of nothing")
	_, err = api.WrapDataKeys(s.ctx, admin, &kms.WrapDataKeysRequest{Parent: name.Namespace(), Key: name})
	wantViolation(t, err, "items", "WrapDataKeys of nothing")
	_, err = api.UnwrapDataKeys(s.ctx, admin, &kms.UnwrapDataKeysRequest{Items: items[:1]})
	wantViolation(t, err, "parent", "UnwrapDataKeys without a namespace")
}

func testBatchOfManyKeys(t *testing.T, s *suite) {
	const keys, each = 12, 9
	var items []kms.DataKeyItem
	var want []kms.DataKeyResult
	for k := range keys {
		name := s.mustCreate(fmt.Sprintf("k%d", k), profiles[k%2])
		for range each {
			r := s.mustGenerate(name, 1)[0]
			items = append(items, kms.DataKeyItem{Wrapped: r.Wrapped})
			want = append(want, r)
		}
	}
	// Interleaved, so that hardly any item has the key of the one before.
	shuffled := make([]kms.DataKeyItem, len(items))
	order := make([]int, len(items))
	for i := range items {
		order[i] = i * 7 % len(items)
		shuffled[i] = items[order[i]]
	}
	for i, r := range s.mustUnwrap(shuffled...) {
		if w := want[order[i]]; r.Err != nil || !bytes.Equal(r.DataKey, w.DataKey) || r.Version != w.Version {
			t.Fatalf("item %d: error %v, version %s, want %s", i, r.Err, r.Version, w.Version)
		}
	}
}

func testBadItems(t *testing.T, s *suite) {
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		other := s.mustCreate("o-"+string('a'+rune(p)), p)
		const n = 200
		good := s.mustGenerate(name, n)
		items := make([]kms.DataKeyItem, n)
		for i, r := range good {
			items[i].Wrapped = bytes.Clone(r.Wrapped)
		}
		bad := map[int]error{
			3: kms.ErrMalformedCiphertext, 50: kms.ErrDecryptionFailed, 51: kms.ErrNotAccessible,
			52: kms.ErrKeyMismatch, 53: kms.ErrInvalidRequest, 199: kms.ErrDecryptionFailed,
		}
		items[3].Wrapped = items[3].Wrapped[:20]
		items[50].Wrapped[len(items[50].Wrapped)-1] ^= 1
		items[51].Wrapped[4] ^= 1
		items[52].Key = other
		items[53].Binding = &kms.Binding{Context: map[string]string{"": "x"}}
		items[199].Binding = &kms.Binding{AAD: []byte("other")}
		for i, r := range s.mustUnwrap(items...) {
			if sentinel, isBad := bad[i]; isBad {
				wantError(t, r.Err, sentinel, fmt.Sprintf("item %d", i))
				if r.DataKey != nil {
					t.Fatalf("item %d failed and has a key of %d bytes", i, len(r.DataKey))
				}
				continue
			}
			if r.Err != nil || !bytes.Equal(r.DataKey, good[i].DataKey) {
				t.Fatalf("item %d beside bad ones: %v", i, r.Err)
			}
		}
	}
}

func testRewrap(t *testing.T, s *suite) {
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		generated := s.mustGenerate(name, 3)
		s.mustRotate(name)
		items := make([]kms.DataKeyItem, 4)
		for i, r := range generated {
			items[i].Wrapped = r.Wrapped
		}
		items[3].Wrapped = []byte("nonsense")
		rewrapped, err := s.Admin.API.RewrapDataKeys(s.ctx, s.Admin.Principal,
			&kms.RewrapDataKeysRequest{Parent: name.Namespace(), Items: items})
		wantOK(t, err, "RewrapDataKeys")
		wantError(t, rewrapped[3].Err, kms.ErrMalformedCiphertext, "rewrap of nonsense")
		for i, r := range rewrapped[:3] {
			if r.Err != nil || r.DataKey != nil || r.Version != name.Version(1) || r.Target != name.Version(2) {
				t.Fatalf("item %d: error %v, from %s to %s", i, r.Err, r.Version, r.Target)
			}
			got := s.mustUnwrap(kms.DataKeyItem{Wrapped: r.Wrapped})[0]
			if got.Err != nil || !bytes.Equal(got.DataKey, generated[i].DataKey) || got.Version != name.Version(2) {
				t.Fatalf("item %d unwraps under %s, error %v", i, got.Version, got.Err)
			}
		}
	}
}

func testUnwrapRewraps(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	old := s.mustGenerate(name, 1)[0]
	s.mustRotate(name)
	fresh := s.mustGenerate(name, 1)[0]
	unwrap := func() []kms.DataKeyResult {
		results, err := s.Admin.API.UnwrapDataKeys(s.ctx, s.Admin.Principal, &kms.UnwrapDataKeysRequest{
			Parent: name.Namespace(), RewrapToPrimary: true,
			Items: []kms.DataKeyItem{{Wrapped: old.Wrapped}, {Wrapped: fresh.Wrapped}},
		})
		wantOK(t, err, "UnwrapDataKeys")
		for i, r := range results {
			wantOK(t, r.Err, fmt.Sprintf("item %d", i))
		}
		return results
	}
	results := unwrap()
	if !bytes.Equal(results[0].DataKey, old.DataKey) || results[0].Wrapped == nil || results[0].Target != name.Version(2) {
		t.Fatalf("the old key: rewrapped %d bytes under %s, error %v", len(results[0].Wrapped), results[0].Target, results[0].RewrapErr)
	}
	if results[1].Wrapped != nil || results[1].RewrapErr != nil || !bytes.Equal(results[1].DataKey, fresh.DataKey) {
		t.Fatalf("the new key was rewrapped: %d bytes, error %v", len(results[1].Wrapped), results[1].RewrapErr)
	}
	again := s.mustUnwrap(kms.DataKeyItem{Wrapped: results[0].Wrapped})[0]
	if again.Err != nil || !bytes.Equal(again.DataKey, old.DataKey) || again.Version != name.Version(2) {
		t.Fatalf("the rewrapped key unwraps under %s, error %v", again.Version, again.Err)
	}

	// A rewrap that cannot be made does not spoil the unwrap.
	_, err := s.disable(name.Version(2), "")
	wantOK(t, err, "DisableKeyVersion")
	results, err = s.Admin.API.UnwrapDataKeys(s.ctx, s.Admin.Principal, &kms.UnwrapDataKeysRequest{
		Parent: name.Namespace(), RewrapToPrimary: true, Items: []kms.DataKeyItem{{Wrapped: old.Wrapped}},
	})
	wantOK(t, err, "UnwrapDataKeys")
	wantOK(t, results[0].Err, "unwrap beside a disabled primary")
	wantError(t, results[0].RewrapErr, kms.ErrNoEnabledPrimary, "rewrap to a disabled primary")
	if !bytes.Equal(results[0].DataKey, old.DataKey) || results[0].Wrapped != nil {
		t.Fatalf("unwrap beside a disabled primary returned %d and %d bytes", len(results[0].DataKey), len(results[0].Wrapped))
	}
}
