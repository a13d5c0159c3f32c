package envelope_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"testing"

	"github.com/keyholt/keyholt/kms/envelope"
)

// softToken stands in for the HSM: it holds one AES-256 key and does with it what a token does.
type softToken struct {
	block cipher.Block
	uid   envelope.UID
}

func newSoftToken(t testing.TB, key []byte, uid envelope.UID) *softToken {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return &softToken{block: block, uid: uid}
}

// encryptBlocks is CKM_AES_ECB, in place.
func (s *softToken) encryptBlocks(p []byte) {
	for ; len(p) > 0; p = p[envelope.BlockSize:] {
		s.block.Encrypt(p[:envelope.BlockSize], p[:envelope.BlockSize])
	}
}

func (s *softToken) maskKey() *envelope.MaskKey {
	var l [envelope.BlockSize]byte
	s.encryptBlocks(l[:])
	m := envelope.NewMaskKey(&l)
	return &m
}

func (s *softToken) deriveKey(nonce []byte) *[envelope.DerivedKeySize]byte {
	kx := s.maskKey().AppendDerivationBlocks(nil, (*[envelope.NonceSize]byte)(nonce))
	s.encryptBlocks(kx)
	return (*[envelope.DerivedKeySize]byte)(kx)
}

// gcm is CKM_AES_GCM, for a nonce of the given length.
func (s *softToken) gcm(t testing.TB, nonceSize int) cipher.AEAD {
	t.Helper()
	aead, err := cipher.NewGCMWithNonceSize(s.block, nonceSize)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// seal makes a blob with a nonce of the test's choice, in the format given.
func (s *softToken) seal(t testing.TB, f envelope.Format, k envelope.Kind, nonce []byte, b envelope.Binding,
	plaintext []byte,
) []byte {
	t.Helper()
	aad := b.AppendAAD(nil, envelope.NewHeader(f, k, s.uid))
	blob := envelope.Blob{Format: f, Kind: k, UID: s.uid, Nonce: nonce}
	var err error
	if f == envelope.FormatStrict {
		blob.Sealed = s.gcm(t, len(nonce)).Seal(nil, nonce, plaintext, aad)
	} else {
		n := (*[envelope.NonceSize]byte)(nonce)
		if blob.Sealed, err = envelope.SealDerived(nil, s.deriveKey(nonce), n, plaintext, aad); err != nil {
			t.Fatal(err)
		}
	}
	out, err := envelope.Append(nil, blob)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// open parses and opens a blob of either format the way the service does.
func (s *softToken) open(t testing.TB, p []byte, b envelope.Binding) ([]byte, error) {
	t.Helper()
	blob, err := envelope.Parse(p)
	if err != nil {
		return nil, err
	}
	if blob.Format == envelope.FormatStrict {
		aad := b.AppendAAD(nil, blob.Header())
		plaintext, err := s.gcm(t, len(blob.Nonce)).Open(nil, blob.Nonce, blob.Sealed, aad)
		if err != nil {
			return nil, envelope.ErrOpen
		}
		return plaintext, nil
	}
	items := []envelope.OpenItem{{Blob: &blob, Binding: b}}
	derived, err := envelope.AppendOpenBlocks(nil, s.maskKey(), items)
	if err != nil {
		return nil, err
	}
	s.encryptBlocks(derived)
	if _, err := envelope.OpenItems(nil, derived, items); err != nil {
		return nil, err
	}
	return items[0].Plaintext, items[0].Err
}

func mustBinding(t testing.TB, context map[string]string, additionalData []byte) envelope.Binding {
	t.Helper()
	b, err := envelope.NewBinding(context, additionalData)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sequence returns n bytes that count upwards from first.
func sequence(first byte, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = first + byte(i)
	}
	return p
}

func testUID() envelope.UID { return envelope.UID(sequence(0xa0, envelope.UIDSize)) }

func testToken(t testing.TB) *softToken { return newSoftToken(t, sequence(0, 32), testUID()) }

func requireEqual(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %x\nwant %x", what, got, want)
	}
}
