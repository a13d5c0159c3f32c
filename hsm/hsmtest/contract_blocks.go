package hsmtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"

	"github.com/keyholt/keyholt/hsm"
)

func (c *contract) unhex(s string) []byte {
	c.Helper()
	b, err := hex.DecodeString(s)
	c.must(err)
	return b
}

// testBlocksVectors: FIPS 197, appendix C.3; SP 800-38A, F.1.5.
func testBlocksVectors(c *contract) {
	vectors := []struct{ key, plaintext, ciphertext string }{{
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		"00112233445566778899aabbccddeeff",
		"8ea2b7ca516745bfeafc49904b496089",
	}, {
		"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
		"6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
			"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
		"f3eed1bdb5d2a03c064b5a7e3db181f8591ccb10d410ed26dc5ba74a31362870" +
			"b6ed21b99ca6f4f9f153e7b1beafed1d23304b7a39f9f3ff067d8d8f9e24ecc7",
	}}
	for _, v := range vectors {
		uid, ok := c.importKey(hsm.AES256Blocks, c.unhex(v.key))
		if !ok {
			return
		}
		if got := c.encrypt(uid, c.unhex(v.plaintext)); !bytes.Equal(got, c.unhex(v.ciphertext)) {
			c.Fatalf("got %x, want %s", got, v.ciphertext)
		}
	}
}

// testBlocksXAES derives keys as C2SP XAES-256-GCM does, with the vectors of that
// specification.
func testBlocksXAES(c *contract) {
	vectors := []struct {
		key         byte
		aad, sealed string
	}{
		{0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	}
	nonce, plaintext := []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM")
	for _, v := range vectors {
		uid, ok := c.importKey(hsm.AES256Blocks, bytes.Repeat([]byte{v.key}, 32))
		if !ok {
			return
		}
		k1 := c.encrypt(uid, make([]byte, 16))
		carry := k1[0] >> 7
		for i := range k1 {
			k1[i] <<= 1
			if i+1 < len(k1) {
				k1[i] |= k1[i+1] >> 7
			}
		}
		k1[15] ^= carry * 0x87
		blocks := make([]byte, 32)
		for i := range 2 {
			m := blocks[16*i : 16*i+16]
			copy(m, []byte{0, byte(1 + i), 'X', 0})
			copy(m[4:], nonce[:12])
			for j := range m {
				m[j] ^= k1[j]
			}
		}
		block, err := aes.NewCipher(c.encrypt(uid, blocks))
		c.must(err)
		aead, err := cipher.NewGCM(block)
		c.must(err)
		if got := aead.Seal(nil, nonce[12:], plaintext, []byte(v.aad)); !bytes.Equal(got, c.unhex(v.sealed)) {
			c.Fatalf("key %02x: got %x, want %s", v.key, got, v.sealed)
		}
	}
}

// ecb is the standard library's answer.
func (c *contract) ecb(key, src []byte) []byte {
	c.Helper()
	block, err := aes.NewCipher(key)
	c.must(err)
	dst := make([]byte, len(src))
	for i := 0; i < len(src); i += aes.BlockSize {
		block.Encrypt(dst[i:], src[i:])
	}
	return dst
}

func testBlocksAgainstStdlib(c *contract) {
	key := randomBytes(32)
	uid, ok := c.importKey(hsm.AES256Blocks, key)
	if !ok {
		return
	}
	for _, size := range []int{16, 32, 48, 1024, 4096, 32768} {
		src := randomBytes(size)
		if got := c.encrypt(uid, src); !bytes.Equal(got, c.ecb(key, src)) {
			c.Fatalf("%d bytes differ from the standard library's", size)
		}
	}
}

func testBlocksInPlace(c *contract) {
	uid := c.generate(hsm.AES256Blocks)
	for _, size := range []int{16, 64, c.info.MaxBlockBytes, 2*c.info.MaxBlockBytes + 48} {
		src := randomBytes(size)
		want := c.encrypt(uid, src)
		if bytes.Equal(want, src) {
			c.Fatal("nothing was encrypted")
		}
		c.must(c.token.EncryptBlocks(c.ctx, uid, src, src))
		if !bytes.Equal(src, want) {
			c.Fatalf("%d bytes in place differ", size)
		}
	}
}

// testBlocksLong: a request of any length gives what its parts give, leaves the
// source alone, and writes nothing behind len(src).
func testBlocksLong(c *contract) {
	uid := c.generate(hsm.AES256Blocks)
	limit := c.info.MaxBlockBytes
	for _, size := range []int{limit - 16, limit, limit + 16, 3*limit + 160} {
		if size <= 0 {
			continue
		}
		src := randomBytes(size)
		before := bytes.Clone(src)
		dst := make([]byte, size+16)
		c.must(c.token.EncryptBlocks(c.ctx, uid, dst, src))
		if !bytes.Equal(src, before) {
			c.Fatal("the source was changed")
		}
		if !bytes.Equal(dst[size:], make([]byte, 16)) {
			c.Fatal("bytes behind the end were written")
		}
		for _, at := range []int{0, (size/2 + 15) / 16 * 16, size - 16} {
			if at+16 <= size && !bytes.Equal(dst[at:at+16], c.encrypt(uid, src[at:at+16])) {
				c.Fatalf("block at %d of %d bytes differs from itself alone", at, size)
			}
		}
	}
}

func testBlocksArguments(c *contract) {
	uid := c.generate(hsm.AES256Blocks)
	buf := make([]byte, 64)
	c.wantError("nothing", c.token.EncryptBlocks(c.ctx, uid, buf, nil), hsm.ErrArgument)
	c.wantError("15 bytes", c.token.EncryptBlocks(c.ctx, uid, buf, buf[:15]), hsm.ErrArgument)
	c.wantError("17 bytes", c.token.EncryptBlocks(c.ctx, uid, make([]byte, 32), buf[:17]), hsm.ErrArgument)
	c.wantError("short destination", c.token.EncryptBlocks(c.ctx, uid, make([]byte, 16), buf[:32]), hsm.ErrArgument)
	c.wantError("overlap", c.token.EncryptBlocks(c.ctx, uid, buf[16:48], buf[:32]), hsm.ErrArgument)
	c.wantError("unknown key", c.token.EncryptBlocks(c.ctx, c.newUID(), make([]byte, 16), buf[:16]), hsm.ErrKeyNotFound)
}
