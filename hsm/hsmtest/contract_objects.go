package hsmtest

import (
	"bytes"
	"reflect"
	"slices"
	"strings"

	"github.com/keyholt/keyholt/hsm"
)

var allSpecs = []hsm.KeySpec{hsm.AES256Blocks, hsm.AES256GCM}

func testInfo(c *contract) {
	info := c.info
	if info.Label == "" || info.MaxBlockBytes < hsm.BlockSize || info.MaxBlockBytes%hsm.BlockSize != 0 {
		c.Fatalf("info %+v", info)
	}
	if !info.Supports(hsm.AES256Blocks) {
		c.Fatal("every token supports AES256Blocks")
	}
	if !slices.Contains(info.Mechanisms, "CKM_AES_ECB") {
		c.Fatalf("mechanisms %v", info.Mechanisms)
	}
	limitations := make(map[string]bool)
	for _, l := range info.Limitations {
		if l.Name == "" || l.Detail == "" {
			c.Errorf("limitation %+v says nothing", l)
		}
		limitations[l.Name] = true
	}
	for name, can := range map[string]bool{
		"usage-switch": info.UsageSwitch, "label-switch": info.LabelSwitch, "session-keys": info.SessionKeys, "allowed-mechanisms": info.AllowedMechs,
	} {
		if can == limitations[name] {
			c.Errorf("%s: supported %v, but limitation named %v", name, can, limitations[name])
		}
	}
	info.Mechanisms[0], info.Specs[0] = "changed", 0
	if again := c.token.Info(); again.Mechanisms[0] == "changed" || again.Specs[0] == 0 {
		c.Error("Info shares its slices")
	}
}

// testGenerated: a key is made as the specification says and reported so.
func testGenerated(c *contract) {
	for _, spec := range c.info.Specs {
		uid := c.newUID()
		label := "keyholt:test:" + spec.String()
		made, err := c.token.GenerateKey(c.ctx, uid, label, spec)
		c.must(err)
		read, err := c.token.Key(c.ctx, uid)
		c.must(err)
		for _, o := range []hsm.Object{made, read} {
			if o.UID != uid || o.Label != label || o.Spec != spec || !o.Usable {
				c.Errorf("%s: %+v", spec, o)
			}
			if !o.Sensitive || o.Extractable || !o.AlwaysSensitive || !o.NeverExtractable || o.Local == c.fixture.NoLocal {
				c.Errorf("%s is not protected: %+v", spec, o)
			}
			var want []string
			if c.info.AllowedMechs {
				want = mechanisms(spec)
				if o.Copyable {
					c.Errorf("%s can be copied", spec)
				}
			}
			if c.info.AllowedMechs && !slices.Equal(o.Mechanisms, want) {
				c.Errorf("%s allows %v, want %v", spec, o.Mechanisms, want)
			}
		}
	}
	_, err := c.token.GenerateKey(c.ctx, c.newUID(), "", 0)
	c.wantError("no specification", err, hsm.ErrArgument)
	_, err = c.token.GenerateKey(c.ctx, c.newUID(), "", 200)
	c.wantError("unknown specification", err, hsm.ErrArgument)
}

func testUnsupportedSpecs(c *contract) {
	for _, spec := range allSpecs {
		if c.needs(spec) {
			continue
		}
		_, err := c.token.GenerateKey(c.ctx, c.newUID(), "", spec)
		c.wantError("GenerateKey", err, hsm.ErrUnsupported)
		err = c.token.ImportSessionKey(c.ctx, c.newUID(), spec, make([]byte, 32))
		c.wantError("ImportSessionKey", err, hsm.ErrUnsupported)
	}
}

func testEnumerate(c *contract) {
	keys, err := c.token.Keys(c.ctx)
	c.must(err)
	if len(keys) != 0 {
		c.Fatalf("a new token holds %d keys", len(keys))
	}
	want := make(map[hsm.UID]hsm.Object)
	for range 5 {
		for _, spec := range c.info.Specs {
			uid := c.newUID()
			object, err := c.token.GenerateKey(c.ctx, uid, uid.String()[:8], spec)
			c.must(err)
			want[uid] = object
		}
	}
	keys, err = c.token.Keys(c.ctx)
	c.must(err)
	if len(keys) != len(want) {
		c.Fatalf("%d keys of %d", len(keys), len(want))
	}
	for _, k := range keys {
		w, ok := want[k.UID]
		if !ok || k.Label != w.Label || k.Spec != w.Spec || k.Usable != w.Usable {
			c.Fatalf("enumerated %+v, made %+v", k, w)
		}
	}
	_, err = c.token.Key(c.ctx, c.newUID())
	c.wantError("unknown key", err, hsm.ErrKeyNotFound)
}

func testDuplicate(c *contract) {
	uid := c.generate(hsm.AES256Blocks)
	before := c.encrypt(uid, make([]byte, 16))
	_, err := c.token.GenerateKey(c.ctx, uid, "second", hsm.AES256Blocks)
	c.wantError("GenerateKey", err, hsm.ErrKeyExists)
	if c.info.SessionKeys {
		err = c.token.ImportSessionKey(c.ctx, uid, hsm.AES256Blocks, make([]byte, 32))
		c.wantError("ImportSessionKey", err, hsm.ErrKeyExists)
	}
	if !bytes.Equal(before, c.encrypt(uid, make([]byte, 16))) {
		c.Fatal("the key was replaced")
	}
	keys, err := c.token.Keys(c.ctx)
	c.must(err)
	if len(keys) != 1 {
		c.Fatalf("%d objects", len(keys))
	}
}

func testDestroy(c *contract) {
	uid, other := c.generate(hsm.AES256Blocks), c.generate(hsm.AES256Blocks)
	c.encrypt(uid, make([]byte, 16))
	c.must(c.token.DestroyKey(c.ctx, uid))
	c.wantError("EncryptBlocks", c.token.EncryptBlocks(c.ctx, uid, make([]byte, 16), make([]byte, 16)), hsm.ErrKeyNotFound)
	_, err := c.token.Key(c.ctx, uid)
	c.wantError("Key", err, hsm.ErrKeyNotFound)
	c.wantError("DestroyKey again", c.token.DestroyKey(c.ctx, uid), hsm.ErrKeyNotFound)
	if c.info.UsageSwitch {
		c.wantError("SetUsable", c.token.SetUsable(c.ctx, uid, true), hsm.ErrKeyNotFound)
	}
	c.encrypt(other, make([]byte, 16))
	// The UID is free again, and names another key.
	_, err = c.token.GenerateKey(c.ctx, uid, "", hsm.AES256Blocks)
	c.must(err)
	c.encrypt(uid, make([]byte, 16))
}

// testSpecsAreSeparate: no key does the other specification's work.
func testSpecsAreSeparate(c *contract) {
	if !c.needs(hsm.AES256GCM) {
		return
	}
	blocks, gcm := c.generate(hsm.AES256Blocks), c.generate(hsm.AES256GCM)
	err := c.token.EncryptBlocks(c.ctx, gcm, make([]byte, 16), make([]byte, 16))
	c.wantError("EncryptBlocks with a GCM key", err, hsm.ErrKeyNotPermitted)
	sealed := c.seal(gcm, []byte("p"), []byte("a"))
	err = c.token.Seal(c.ctx, blocks, []hsm.SealItem{{Plaintext: []byte("p"), AAD: []byte("a")}})
	c.wantError("Seal with a blocks key", err, hsm.ErrKeyNotPermitted)
	err = c.token.Open(c.ctx, blocks, []hsm.OpenItem{opening(sealed)})
	c.wantError("Open with a blocks key", err, hsm.ErrKeyNotPermitted)
}

// testUsageSwitch: off takes effect at once, on restores, both may be repeated, and
// another login sees it.
func testUsageSwitch(c *contract) {
	uid := c.generate(hsm.AES256Blocks)
	if !c.info.UsageSwitch {
		c.wantError("SetUsable", c.token.SetUsable(c.ctx, uid, false), hsm.ErrUnsupported)
		return
	}
	c.wantError("unknown key", c.token.SetUsable(c.ctx, c.newUID(), false), hsm.ErrKeyNotFound)
	another := c.another()
	c.must(another.EncryptBlocks(c.ctx, uid, make([]byte, 16), make([]byte, 16)))
	use := map[hsm.KeySpec]func(hsm.Token, hsm.UID) error{
		hsm.AES256Blocks: func(t hsm.Token, uid hsm.UID) error {
			return t.EncryptBlocks(c.ctx, uid, make([]byte, 32), make([]byte, 32))
		},
		hsm.AES256GCM: func(t hsm.Token, uid hsm.UID) error {
			return t.Seal(c.ctx, uid, []hsm.SealItem{{AAD: []byte("a")}})
		},
	}
	for _, spec := range c.info.Specs {
		uid := c.generate(spec)
		for range 2 {
			for range 2 {
				c.must(c.token.SetUsable(c.ctx, uid, false))
				c.wantError("use when off", use[spec](c.token, uid), hsm.ErrKeyNotPermitted)
				c.wantError("use elsewhere when off", use[spec](another, uid), hsm.ErrKeyNotPermitted)
			}
			object, err := c.token.Key(c.ctx, uid)
			c.must(err)
			if object.Usable || object.Spec != spec {
				c.Fatalf("off, but %+v", object)
			}
			c.must(c.token.SetUsable(c.ctx, uid, true))
			c.must(use[spec](c.token, uid))
			c.must(use[spec](another, uid))
			object, err = c.token.Key(c.ctx, uid)
			c.must(err)
			if !object.Usable {
				c.Fatal("on, but not usable")
			}
		}
	}
	if !c.needs(hsm.AES256GCM) {
		return
	}
	gcm := c.generate(hsm.AES256GCM)
	sealed := c.seal(gcm, []byte("p"), []byte("a"))
	c.must(c.token.SetUsable(c.ctx, gcm, false))
	items := []hsm.OpenItem{opening(sealed)}
	c.wantError("Open when off", c.token.Open(c.ctx, gcm, items), hsm.ErrKeyNotPermitted)
}

// testLabel: a label can be changed, also of a key that is off, is seen by another
// login, and nothing else of the object changes.
func testLabel(c *contract) {
	uid := c.generate(hsm.AES256Blocks)
	if !c.info.LabelSwitch {
		c.wantError("SetLabel", c.token.SetLabel(c.ctx, uid, "label"), hsm.ErrUnsupported)
		return
	}
	c.wantError("unknown key", c.token.SetLabel(c.ctx, c.newUID(), "label"), hsm.ErrKeyNotFound)
	another := c.another()
	want, err := another.Key(c.ctx, uid)
	c.must(err)
	before := c.encrypt(uid, make([]byte, 16))
	for _, label := range []string{"keyholt:label", "keyholt:label", "", "keyholt:\u00fc:" + strings.Repeat("x", 200)} {
		c.must(c.token.SetLabel(c.ctx, uid, label))
		want.Label = label
		for _, token := range []hsm.Token{c.token, another} {
			got, err := token.Key(c.ctx, uid)
			c.must(err)
			if !reflect.DeepEqual(got, want) {
				c.Fatalf("got %+v, want %+v", got, want)
			}
		}
	}
	if !bytes.Equal(before, c.encrypt(uid, make([]byte, 16))) {
		c.Fatal("the key was replaced")
	}
	if c.info.UsageSwitch {
		c.must(c.token.SetUsable(c.ctx, uid, false))
		c.must(c.token.SetLabel(c.ctx, uid, "off"))
		got, err := c.token.Key(c.ctx, uid)
		c.must(err)
		if got.Label != "off" || got.Usable {
			c.Fatalf("%+v", got)
		}
	}
	c.must(c.token.DestroyKey(c.ctx, uid))
	c.wantError("destroyed key", c.token.SetLabel(c.ctx, uid, "label"), hsm.ErrKeyNotFound)
}

// testSessionKey: a session key is usable, listed nowhere, and gone with the login.
func testSessionKey(c *contract) {
	c.wantError("short key", c.token.ImportSessionKey(c.ctx, c.newUID(), hsm.AES256Blocks, make([]byte, 16)), hsm.ErrArgument)
	c.wantError("no specification", c.token.ImportSessionKey(c.ctx, c.newUID(), 0, make([]byte, 32)), hsm.ErrArgument)
	uid, ok := c.importKey(hsm.AES256Blocks, make([]byte, 32))
	if !ok {
		return
	}
	c.encrypt(uid, make([]byte, 16))
	keys, err := c.token.Keys(c.ctx)
	c.must(err)
	if len(keys) != 0 {
		c.Fatalf("a session key is enumerated: %+v", keys)
	}
	c.encrypt(uid, make([]byte, 16)) // still there after an enumeration
	_, err = c.token.Key(c.ctx, uid)
	c.wantError("Key", err, hsm.ErrKeyNotFound)
	_, err = c.token.GenerateKey(c.ctx, uid, "", hsm.AES256Blocks)
	c.wantError("GenerateKey with its UID", err, hsm.ErrKeyExists)
	c.must(c.token.DestroyKey(c.ctx, uid))
	c.wantError("after destruction", c.token.EncryptBlocks(c.ctx, uid, make([]byte, 16), make([]byte, 16)), hsm.ErrKeyNotFound)

	uid, _ = c.importKey(hsm.AES256Blocks, make([]byte, 32))
	c.must(c.token.Close())
	c.token = c.another()
	c.wantError("after a restart", c.token.EncryptBlocks(c.ctx, uid, make([]byte, 16), make([]byte, 16)), hsm.ErrKeyNotFound)
}

// testRestart: keys outlive the login.
func testRestart(c *contract) {
	uid := c.generate(hsm.AES256Blocks)
	src := randomBytes(64)
	want := c.encrypt(uid, src)
	c.must(c.token.Close())
	c.token = c.another()
	if !bytes.Equal(want, c.encrypt(uid, src)) {
		c.Fatal("another key after a restart")
	}
}

// testAnother: what one login makes, destroys or switches, another sees, also after
// it has used the key.
func testAnother(c *contract) {
	another := c.another()
	uid := c.generate(hsm.AES256Blocks)
	dst := make([]byte, 16)
	c.must(another.EncryptBlocks(c.ctx, uid, dst, make([]byte, 16)))
	if !bytes.Equal(dst, c.encrypt(uid, make([]byte, 16))) {
		c.Fatal("two logins, two keys")
	}
	c.must(c.token.DestroyKey(c.ctx, uid))
	c.wantError("destroyed elsewhere", another.EncryptBlocks(c.ctx, uid, dst, make([]byte, 16)), hsm.ErrKeyNotFound)
	c.must(another.Close())
	c.encrypt(c.generate(hsm.AES256Blocks), make([]byte, 16))
}
