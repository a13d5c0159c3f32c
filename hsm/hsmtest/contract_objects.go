package hsmtest

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/keyholt/keyholt/hsm"
)

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
	for _, scheme := range info.Schemes {
		if !slices.ContainsFunc(info.Specs, func(spec hsm.KeySpec) bool { return info.Signs(spec, scheme) }) {
			c.Errorf("no key signs with %s", scheme)
		}
	}
	for _, spec := range info.Specs {
		if spec.Usage() == hsm.UsageSign && !slices.ContainsFunc(info.Schemes, spec.Has) {
			c.Errorf("%s signs with no scheme", spec)
		}
	}
	if (len(info.OAEP) > 0) != slices.ContainsFunc(info.Specs, func(s hsm.KeySpec) bool { return s.Usage() == hsm.UsageDecrypt }) {
		c.Errorf("RSA-OAEP with %v, keys %v", info.OAEP, info.Specs)
	}
	if imports := len(info.Imports) > 0; imports != (len(info.ImportHashes) > 0) || imports != (info.Supports(hsm.RSA3072Import) || info.Supports(hsm.RSA4096Import)) {
		c.Errorf("imports %v with %v under keys of %v", info.Imports, info.ImportHashes, info.Specs)
	}
	info.Mechanisms[0], info.Specs[0] = "changed", 0
	if again := c.token.Info(); again.Mechanisms[0] == "changed" || again.Specs[0] == 0 {
		c.Error("Info shares its slices")
	}
}

// testGenerated: a key is made as the specification says and reported so.
func testGenerated(c *contract) {
	for _, spec := range c.specs() {
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
			a := o.Attributes
			if a.Sensitive != hsm.ReportedTrue || a.Extractable != hsm.ReportedFalse || a.AlwaysSensitive != hsm.ReportedTrue ||
				a.NeverExtractable != hsm.ReportedTrue || a.Private != hsm.ReportedTrue || a.Modifiable == hsm.NotReported ||
				(a.Local == hsm.ReportedTrue) == c.fixture.NoLocal || o.Copyable != (a.Copyable != hsm.ReportedFalse) {
				c.Errorf("%s is not protected: %+v", spec, a)
			}
			if a.KeyGenMechanism != "" && a.KeyGenMechanism != generationMechanism(spec) {
				c.Errorf("%s was made with %s", spec, a.KeyGenMechanism)
			}
			var want []string
			if c.info.AllowedMechs {
				want = c.listed(mechanisms(spec))
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

// listed are those of the mechanisms that the token has.
func (c *contract) listed(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(c.info.Mechanisms, name) })
}

// testUnsupportedSpecs: what the token does not say it can is refused, and so are session
// keys that are pairs.
func testUnsupportedSpecs(c *contract) {
	for _, spec := range hsm.KeySpecs() {
		if !c.info.Supports(spec) {
			_, err := c.token.GenerateKey(c.ctx, c.newUID(), "", spec)
			c.wantError("GenerateKey", err, hsm.ErrUnsupported)
		}
		if !c.info.Supports(spec) || spec.IsPair() {
			err := c.token.ImportSessionKey(c.ctx, c.newUID(), spec, make([]byte, spec.Size()))
			c.wantError("ImportSessionKey", err, hsm.ErrUnsupported)
		}
		if !c.info.CanImport(spec) {
			_, err := c.token.UnwrapKey(c.ctx, c.newUID(), "", spec, hsm.Wrapped{
				Hash: crypto.SHA1, Key: make([]byte, 384), Value: make([]byte, (spec.Size()+15)/8*8), PublicKey: c.somePublicKey(spec),
			})
			c.wantError("UnwrapKey", err, hsm.ErrUnsupported)
		}
	}
}

func testEnumerate(c *contract) {
	keys, err := c.token.Keys(c.ctx)
	c.must(err)
	if len(keys) != 0 {
		c.Fatalf("a new token holds %d keys", len(keys))
	}
	want := make(map[hsm.UID]hsm.Object)
	for range 3 {
		for _, spec := range c.quick() {
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

// testSpecsAreSeparate crosses every kind of key with every operation that it must refuse.
func testSpecsAreSeparate(c *contract) {
	uses := map[hsm.Usage]func(uid hsm.UID) error{
		hsm.UsageBlocks: func(uid hsm.UID) error {
			return c.token.EncryptBlocks(c.ctx, uid, make([]byte, 16), make([]byte, 16))
		},
		hsm.UsageGCM: func(uid hsm.UID) error {
			seal := c.token.Seal(c.ctx, uid, []hsm.SealItem{{Plaintext: []byte("p"), AAD: []byte("a")}})
			open := c.token.Open(c.ctx, uid, []hsm.OpenItem{{Nonce: make([]byte, 12), Sealed: make([]byte, 20), AAD: []byte("a")}})
			if seal != nil && open != nil {
				return open
			}
			return nil
		},
		hsm.UsageSign: func(uid hsm.UID) error {
			for _, scheme := range hsm.Schemes() {
				if _, err := c.token.Sign(c.ctx, uid, scheme, make([]byte, 32)); !errors.Is(err, hsm.ErrKeyNotPermitted) {
					return fmt.Errorf("Sign: %w", err)
				}
			}
			return c.token.SignBatch(c.ctx, uid, hsm.ECDSA, []hsm.SignItem{{Input: make([]byte, 32)}})
		},
		hsm.UsageMAC: func(uid hsm.UID) error {
			if _, err := c.token.MAC(c.ctx, uid, []byte("m")); !errors.Is(err, hsm.ErrKeyNotPermitted) {
				return fmt.Errorf("MAC: %w", err)
			}
			return c.token.MACBatch(c.ctx, uid, []hsm.MACItem{{Message: []byte("m")}})
		},
		hsm.UsageDecrypt: func(uid hsm.UID) error {
			_, err := c.token.DecryptOAEP(c.ctx, uid, crypto.SHA1, make([]byte, 256), nil)
			return err
		},
	}
	if c.info.CanImport(hsm.AES256Blocks) {
		uses[hsm.UsageImport] = func(uid hsm.UID) error {
			_, err := c.token.UnwrapKey(c.ctx, c.newUID(), "", hsm.AES256Blocks, hsm.Wrapped{
				By: uid, Hash: c.info.ImportHashes[0], Key: make([]byte, 384), Value: make([]byte, 40),
			})
			return err
		}
	}
	for _, spec := range c.shortest() {
		uid := c.generate(spec)
		for usage, use := range uses {
			if usage != spec.Usage() {
				c.wantError(fmt.Sprintf("usage %d of a key of %s", usage, spec), use(uid), hsm.ErrKeyNotPermitted)
			}
		}
		if _, err := c.token.PublicKey(c.ctx, uid); !spec.IsPair() {
			c.wantError("PublicKey of "+spec.String(), err, hsm.ErrKeyNotPermitted)
		} else {
			c.must(err)
		}
	}
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
	for _, spec := range c.shortest() {
		uid := c.generate(spec)
		use := c.use(uid, spec)
		c.must(use(another))
		for range 2 {
			for range 2 {
				c.must(c.token.SetUsable(c.ctx, uid, false))
				c.wantError(spec.String()+" when off", use(c.token), hsm.ErrKeyNotPermitted)
				c.wantError(spec.String()+" elsewhere when off", use(another), hsm.ErrKeyNotPermitted)
			}
			object, err := c.token.Key(c.ctx, uid)
			c.must(err)
			if object.Usable || object.Spec != spec {
				c.Fatalf("off, but %+v", object)
			}
			if spec.IsPair() {
				_, err := another.PublicKey(c.ctx, uid)
				c.must(err)
			}
			c.must(c.token.SetUsable(c.ctx, uid, true))
			c.must(use(c.token))
			c.must(use(another))
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
