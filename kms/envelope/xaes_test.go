package envelope_test

import (
	"crypto/sha3"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/keyholt/keyholt/kms/envelope"
)

// The accumulated tests are defined in C2SP XAES-256-GCM, "Accumulated randomized tests".
func accumulate(t testing.TB, iterations int) []byte {
	t.Helper()
	stream, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		p := make([]byte, n)
		if _, err := stream.Read(p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	vector := func() []byte { return read(int(read(1)[0])) }
	for range iterations {
		token := newSoftToken(t, read(32), envelope.UID{})
		nonce := read(envelope.NonceSize)
		plaintext, aad := vector(), vector()
		n := (*[envelope.NonceSize]byte)(nonce)
		sealed, err := envelope.SealDerived(nil, token.deriveKey(nonce), n, plaintext, aad)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := envelope.OpenDerived(nil, token.deriveKey(nonce), slices.Concat(nonce, sealed), aad)
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "plaintext", opened, plaintext)
		if _, err := sum.Write(sealed); err != nil {
			t.Fatal(err)
		}
	}
	hash := make([]byte, 32)
	if _, err := sum.Read(hash); err != nil {
		t.Fatal(err)
	}
	return hash
}

// dbl in GF(2^128) is a multiplication by x: checked against big integers.
func TestMaskKeyIsTheDoubling(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	mask := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1))
	zero := [envelope.NonceSize]byte{}
	for i := range 200 {
		var l [envelope.BlockSize]byte
		for j := range l {
			l[j] = byte(rng.Uint32())
		}
		if i%2 == 0 {
			l[0] |= 0x80
		} else {
			l[0] &= 0x7f
		}
		want := new(big.Int).Lsh(new(big.Int).SetBytes(l[:]), 1)
		if want.Bit(128) == 1 {
			want.Xor(want, big.NewInt(0x87))
		}
		want.And(want, mask)
		m := envelope.NewMaskKey(&l)
		// With a zero nonce the first block is K1 xor 00 01 58 00 ...: take the constant off again.
		got := m.AppendDerivationBlocks(nil, &zero)[:envelope.BlockSize]
		got[1] ^= 1
		got[2] ^= 'X'
		requireEqual(t, "K1", got, want.FillBytes(make([]byte, envelope.BlockSize)))
	}
}

func TestMaskKeyNeverPrints(t *testing.T) {
	m := testToken(t).maskKey()
	raw := m.AppendDerivationBlocks(nil, new([envelope.NonceSize]byte))
	secret := fmt.Sprintf("%x", raw[4:12]) // these bytes are K1's
	decimal := strings.Trim(fmt.Sprintf("%d", raw[4:12]), "[]")
	var log strings.Builder
	attrs := []slog.Attr{slog.Any("value", *m), slog.Any("pointer", m)}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).LogAttrs(t.Context(), slog.LevelInfo, "m", attrs...)
	}
	for _, s := range []string{
		fmt.Sprintf("%v %+v %#v %x %s %d", m, m, m, m, m, m),
		fmt.Sprintf("%v %+v %#v %x %s %d", *m, *m, *m, *m, *m, *m),
		fmt.Sprintf("%x", struct{ Key envelope.MaskKey }{*m}),
		log.String(),
	} {
		if strings.Contains(strings.ToLower(s), secret) || strings.Contains(s, decimal) {
			t.Errorf("printed as %s", s)
		}
	}
	m.Wipe()
	got := m.AppendDerivationBlocks(nil, new([envelope.NonceSize]byte))
	requireEqual(t, "blocks of a wiped key", got[3:16], make([]byte, 13))
}

func TestDerivedKeyIsWiped(t *testing.T) {
	token := testToken(t)
	nonce := sequence(7, envelope.NonceSize)
	n := (*[envelope.NonceSize]byte)(nonce)
	kx := token.deriveKey(nonce)
	sealed, err := envelope.SealDerived(nil, kx, n, []byte("p"), nil)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "key after sealing", kx[:], make([]byte, 32))
	kx = token.deriveKey(nonce)
	if _, err := envelope.OpenDerived(nil, kx, slices.Concat(nonce, sealed), nil); err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "key after opening", kx[:], make([]byte, 32))
	kx = token.deriveKey(nonce)
	p, err := envelope.OpenDerived(nil, kx, slices.Concat(nonce, sealed), []byte("other"))
	if !errors.Is(err, envelope.ErrOpen) || p != nil {
		t.Errorf("got %x, %v, want ErrOpen", p, err)
	}
	requireEqual(t, "key after a failure", kx[:], make([]byte, 32))
}

// tinkXAES returns Tink's implementation for a raw key: 12-byte salt, no prefix.
func tinkXAES(t testing.TB, key []byte) tink.AEAD {
	t.Helper()
	params, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	if err != nil {
		t.Fatal(err)
	}
	k, err := xaesgcm.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), 0, params)
	if err != nil {
		t.Fatal(err)
	}
	manager := keyset.NewManager()
	id, err := manager.AddKey(k)
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	handle, err := manager.Handle()
	if err != nil {
		t.Fatal(err)
	}
	primitive, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	return primitive
}

func TestTinkOpensOurs(t *testing.T) {
	key := sequence(0, 32)
	token, theirs := newSoftToken(t, key, testUID()), tinkXAES(t, key)
	b := mustBinding(t, map[string]string{"tenant": "acme"}, []byte("row 42"))
	for _, size := range []int{0, 1, 15, 16, 17, 1000, envelope.MaxPlaintextSize} {
		plaintext := sequence(byte(size), size)
		items := []envelope.SealItem{{Kind: envelope.KindData, UID: token.uid, Binding: b, Plaintext: plaintext}}
		sealAll(t, token, items)
		blob, err := envelope.Parse(items[0].Blob)
		if err != nil {
			t.Fatal(err)
		}
		got, err := theirs.Decrypt(items[0].Blob[envelope.HeaderSize:], b.AppendAAD(nil, blob.Header()))
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		requireEqual(t, "plaintext", got, plaintext)
	}
}

func TestOursOpensTinks(t *testing.T) {
	key := sequence(0, 32)
	token, theirs := newSoftToken(t, key, testUID()), tinkXAES(t, key)
	b := mustBinding(t, map[string]string{"tenant": "acme"}, []byte("row 42"))
	h := envelope.NewHeader(envelope.FormatDerived, envelope.KindData, token.uid)
	for _, size := range []int{0, 1, 15, 16, 17, 1000, envelope.MaxPlaintextSize} {
		plaintext := sequence(byte(size), size)
		body, err := theirs.Encrypt(plaintext, b.AppendAAD(nil, h))
		if err != nil {
			t.Fatal(err)
		}
		got, err := token.open(t, append(h[:], body...), b)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		requireEqual(t, "plaintext", got, plaintext)
	}
}
