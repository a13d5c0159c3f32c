package hsmtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"github.com/keyholt/keyholt/hsm"
)

func (c *contract) seal(uid hsm.UID, plaintext, aad []byte) hsm.SealItem {
	c.Helper()
	items := []hsm.SealItem{{Plaintext: plaintext, AAD: aad}}
	c.must(c.token.Seal(c.ctx, uid, items))
	c.must(items[0].Err)
	return items[0]
}

func opening(s hsm.SealItem) hsm.OpenItem {
	return hsm.OpenItem{Nonce: s.Nonce, Sealed: s.Sealed, AAD: s.AAD}
}

// testGCMVector: test case 16 of the GCM specification (McGrew and Viega, 2005).
func testGCMVector(c *contract) {
	if !c.needs(hsm.AES256GCM) {
		return
	}
	key := c.unhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")
	uid, ok := c.importKey(hsm.AES256GCM, key)
	if !ok {
		return
	}
	items := []hsm.OpenItem{{
		Nonce: c.unhex("cafebabefacedbaddecaf888"),
		Sealed: c.unhex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" +
			"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" + "76fc6ece0f4e1768cddf8853bb2d551b"),
		AAD: c.unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
	}}
	c.must(c.token.Open(c.ctx, uid, items))
	c.must(items[0].Err)
	want := c.unhex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")
	if !bytes.Equal(items[0].Plaintext, want) {
		c.Fatalf("got %x", items[0].Plaintext)
	}
}

// testGCMAgainstStdlib seals in the token and opens in the standard library, and
// the other way round with nonces of both sizes.
func testGCMAgainstStdlib(c *contract) {
	if !c.needs(hsm.AES256GCM) {
		return
	}
	key := randomBytes(32)
	uid, ok := c.importKey(hsm.AES256GCM, key)
	if !ok {
		return
	}
	block, err := aes.NewCipher(key)
	c.must(err)
	plaintext, aad := randomBytes(100), randomBytes(20)
	sealed := c.seal(uid, plaintext, aad)
	aead, err := cipher.NewGCMWithNonceSize(block, len(sealed.Nonce))
	c.must(err)
	got, err := aead.Open(nil, sealed.Nonce, sealed.Sealed, aad)
	c.must(err)
	if !bytes.Equal(got, plaintext) {
		c.Fatal("the standard library opens something else")
	}
	for _, size := range []int{12, 16} {
		aead, err := cipher.NewGCMWithNonceSize(block, size)
		c.must(err)
		nonce := randomBytes(size)
		items := []hsm.OpenItem{{Nonce: nonce, Sealed: aead.Seal(nil, nonce, plaintext, aad), AAD: aad}}
		c.must(c.token.Open(c.ctx, uid, items))
		c.must(items[0].Err)
		if !bytes.Equal(items[0].Plaintext, plaintext) {
			c.Fatalf("nonce of %d bytes: opens something else", size)
		}
	}
}

// testGCMRoundTrip: empty and large items, many items, input untouched.
func testGCMRoundTrip(c *contract) {
	if !c.needs(hsm.AES256GCM) {
		return
	}
	uid := c.generate(hsm.AES256GCM)
	sizes := []int{0, 1, 15, 16, 17, 32, 1000, 64 << 10}
	for range 300 {
		sizes = append(sizes, 32)
	}
	items := make([]hsm.SealItem, len(sizes))
	for i, size := range sizes {
		items[i] = hsm.SealItem{Plaintext: randomBytes(size), AAD: fmt.Appendf(nil, "item %d", i)}
	}
	items[7].AAD = randomBytes(64 << 10)
	before := bytes.Clone(items[6].Plaintext)
	c.must(c.token.Seal(c.ctx, uid, items))
	opens := make([]hsm.OpenItem, len(items))
	for i, item := range items {
		c.must(item.Err)
		if n := len(item.Nonce); n != 12 && n != 16 {
			c.Fatalf("item %d: a nonce of %d bytes", i, n)
		}
		if len(item.Sealed) != sizes[i]+hsm.TagSize {
			c.Fatalf("item %d: %d bytes sealed to %d", i, sizes[i], len(item.Sealed))
		}
		opens[i] = opening(item)
	}
	if !bytes.Equal(before, items[6].Plaintext) {
		c.Fatal("a plaintext was changed")
	}
	c.must(c.token.Open(c.ctx, uid, opens))
	for i, item := range opens {
		c.must(item.Err)
		if !bytes.Equal(item.Plaintext, items[i].Plaintext) {
			c.Fatalf("item %d opens to something else", i)
		}
	}
	// Results belong to the caller: growing one must not touch its neighbour.
	next := bytes.Clone(opens[10].Plaintext)
	_ = append(opens[9].Plaintext, 0xff)
	_ = append(items[9].Sealed, 0xff)
	if !bytes.Equal(next, opens[10].Plaintext) {
		c.Fatal("results share memory")
	}
}

func testGCMNonces(c *contract) {
	if !c.needs(hsm.AES256GCM) {
		return
	}
	uid := c.generate(hsm.AES256GCM)
	items := make([]hsm.SealItem, 100)
	for i := range items {
		items[i] = hsm.SealItem{Plaintext: []byte("same"), AAD: []byte("same")}
	}
	c.must(c.token.Seal(c.ctx, uid, items))
	seen := make(map[string]bool)
	for _, item := range items {
		c.must(item.Err)
		if seen[string(item.Nonce)] {
			c.Fatalf("nonce %x twice", item.Nonce)
		}
		seen[string(item.Nonce)] = true
	}
}

// testGCMItemsFailAlone: each way to fail authentication fails its item with
// ErrAuthentication, returns nothing, and leaves the neighbours alone.
func testGCMItemsFailAlone(c *contract) {
	if !c.needs(hsm.AES256GCM) {
		return
	}
	uid, other := c.generate(hsm.AES256GCM), c.generate(hsm.AES256GCM)
	plaintext := randomBytes(48)
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0x40
		return b
	}
	bad := map[string]func(*hsm.OpenItem){
		"ciphertext": func(i *hsm.OpenItem) { i.Sealed = flip(i.Sealed, 0) },
		"tag":        func(i *hsm.OpenItem) { i.Sealed = flip(i.Sealed, len(i.Sealed)-1) },
		"truncated":  func(i *hsm.OpenItem) { i.Sealed = i.Sealed[:len(i.Sealed)-1] },
		"only a tag": func(i *hsm.OpenItem) { i.Sealed = i.Sealed[len(i.Sealed)-hsm.TagSize:] },
		"aad":        func(i *hsm.OpenItem) { i.AAD = flip(i.AAD, 0) },
		"longer aad": func(i *hsm.OpenItem) { i.AAD = append(bytes.Clone(i.AAD), 0) },
		"nonce":      func(i *hsm.OpenItem) { i.Nonce = flip(i.Nonce, 0) },
		"other key": func(i *hsm.OpenItem) {
			s := c.seal(other, plaintext, i.AAD)
			i.Nonce, i.Sealed = s.Nonce, s.Sealed
		},
	}
	var items []hsm.OpenItem
	var names []string // "" for a good item
	for name, spoil := range bad {
		good := opening(c.seal(uid, plaintext, []byte("aad")))
		spoiled := good
		spoil(&spoiled)
		items, names = append(items, good, spoiled), append(names, "", name)
	}
	for range 3 { // failures must not wear anything out
		c.must(c.token.Open(c.ctx, uid, items))
		for i, item := range items {
			if names[i] == "" {
				c.must(item.Err)
				if !bytes.Equal(item.Plaintext, plaintext) {
					c.Fatal("a good item opens to something else")
				}
				continue
			}
			c.wantError(names[i], item.Err, hsm.ErrAuthentication)
			if item.Plaintext != nil {
				c.Fatalf("%s: a failed item has a plaintext", names[i])
			}
		}
	}
}

func testGCMArguments(c *contract) {
	if !c.needs(hsm.AES256GCM) {
		return
	}
	uid := c.generate(hsm.AES256GCM)
	c.wantError("Seal of nothing", c.token.Seal(c.ctx, uid, nil), hsm.ErrArgument)
	c.wantError("Open of nothing", c.token.Open(c.ctx, uid, nil), hsm.ErrArgument)

	seals := []hsm.SealItem{{Plaintext: []byte("p")}, {Plaintext: []byte("p"), AAD: []byte("a")}}
	c.must(c.token.Seal(c.ctx, uid, seals))
	c.wantError("Seal without AAD", seals[0].Err, hsm.ErrArgument)
	c.must(seals[1].Err)

	good := opening(seals[1])
	opens := []hsm.OpenItem{good, good, good, good, good}
	opens[0].AAD = nil
	opens[1].Nonce = good.Nonce[:11]
	opens[2].Nonce = nil
	opens[3].Sealed = good.Sealed[:15]
	c.must(c.token.Open(c.ctx, uid, opens))
	for i := range 4 {
		c.wantError("malformed item", opens[i].Err, hsm.ErrArgument)
	}
	c.must(opens[4].Err)

	unknown := c.newUID()
	c.wantError("Seal under an unknown key", c.token.Seal(c.ctx, unknown, seals), hsm.ErrKeyNotFound)
	if seals[1].Sealed != nil || seals[1].Nonce != nil || seals[1].Err != nil {
		c.Fatal("a failed Seal left results")
	}
	c.wantError("Open under an unknown key", c.token.Open(c.ctx, unknown, opens), hsm.ErrKeyNotFound)
	if opens[4].Plaintext != nil {
		c.Fatal("a failed Open left results")
	}
}
