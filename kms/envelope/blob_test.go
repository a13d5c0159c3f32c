package envelope_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms/envelope"
)

func validBlobs() map[string]envelope.Blob {
	uid := testUID()
	return map[string]envelope.Blob{
		"derived wrapped key": {Format: envelope.FormatDerived, Kind: envelope.KindWrappedKey, UID: uid,
			Nonce: sequence(1, 24), Sealed: sequence(2, 32+16)},
		"derived empty data": {Format: envelope.FormatDerived, Kind: envelope.KindData, UID: uid,
			Nonce: sequence(1, 24), Sealed: sequence(2, 16)},
		"derived longest data": {Format: envelope.FormatDerived, Kind: envelope.KindData, UID: uid,
			Nonce: sequence(1, 24), Sealed: make([]byte, envelope.MaxPlaintextSize+16)},
		"derived shortest key": {Format: envelope.FormatDerived, Kind: envelope.KindWrappedKey, UID: uid,
			Nonce: sequence(1, 24), Sealed: make([]byte, 16+16)},
		"derived longest key": {Format: envelope.FormatDerived, Kind: envelope.KindWrappedKey, UID: uid,
			Nonce: sequence(1, 24), Sealed: make([]byte, 64+16)},
		"strict nonce of 12": {Format: envelope.FormatStrict, Kind: envelope.KindData, UID: uid,
			Nonce: sequence(1, 12), Sealed: sequence(2, 20)},
		"strict nonce of 16": {Format: envelope.FormatStrict, Kind: envelope.KindWrappedKey, UID: uid,
			Nonce: sequence(1, 16), Sealed: sequence(2, 48)},
	}
}

func TestAppendThenParse(t *testing.T) {
	for name, want := range validBlobs() {
		t.Run(name, func(t *testing.T) {
			prefix := []byte("kept")
			p, err := envelope.Append(bytes.Clone(prefix), want)
			if err != nil {
				t.Fatal(err)
			}
			requireEqual(t, "what dst held", p[:4], prefix)
			p = p[4:]
			got, err := envelope.Parse(p)
			if err != nil {
				t.Fatal(err)
			}
			if got.Format != want.Format || got.Kind != want.Kind || got.UID != want.UID {
				t.Errorf("header: got %v %v %v", got.Format, got.Kind, got.UID)
			}
			requireEqual(t, "nonce", got.Nonce, want.Nonce)
			requireEqual(t, "sealed", got.Sealed, want.Sealed)
			h := got.Header()
			requireEqual(t, "header bytes", h[:], p[:envelope.HeaderSize])
			if got.PlaintextSize() != len(want.Sealed)-envelope.TagSize {
				t.Errorf("plaintext size %d", got.PlaintextSize())
			}
		})
	}
}

// A view must not let an append to the nonce run into the ciphertext behind it.
func TestParseReturnsClippedViews(t *testing.T) {
	for name, b := range validBlobs() {
		p, err := envelope.Append(make([]byte, 0, 1<<17), b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := envelope.Parse(p)
		if err != nil {
			t.Fatal(err)
		}
		if &got.Sealed[len(got.Sealed)-1] != &p[len(p)-1] {
			t.Errorf("%s: sealed is not a view into the input", name)
		}
		if cap(got.Nonce) != len(got.Nonce) || cap(got.Sealed) != len(got.Sealed) {
			t.Errorf("%s: a view has room beyond its end", name)
		}
	}
}

func TestSizes(t *testing.T) {
	for name, want := range map[string]int{"derived wrapped key": 92, "strict nonce of 16": 85, "derived empty data": 60} {
		p, err := envelope.Append(nil, validBlobs()[name])
		if err != nil {
			t.Fatal(err)
		}
		if len(p) != want {
			t.Errorf("%s: %d bytes, want %d", name, len(p), want)
		}
	}
	if envelope.StrictOverheadShort+32 != 81 || envelope.StrictOverheadLong+32 != 85 || envelope.MaxBlobSize != 65596 {
		t.Error("overheads are not those of FORMAT.md")
	}
}

func TestParseRefuses(t *testing.T) {
	derived := "KH\x01\x01" + strings.Repeat("u", 16)
	wrapped := "KH\x01\x02" + strings.Repeat("u", 16)
	strict := "KH\x02\x01" + strings.Repeat("u", 16)
	nonce, tag := strings.Repeat("n", 24), strings.Repeat("t", 16)
	for name, c := range map[string]struct{ in, cause string }{
		"nothing":                 {"", `does not begin with "KH"`},
		"half a magic":            {"K", `does not begin with "KH"`},
		"another magic":           {"KI" + derived[2:] + nonce + tag, `does not begin with "KH"`},
		"an encrypted file":       {"KEYHOLT\x01" + nonce + nonce + tag, `does not begin with "KH"`},
		"only a magic":            {"KH", "2 bytes, shorter than its header of 20"},
		"a header less one":       {derived[:19], "19 bytes, shorter than its header of 20"},
		"format 0":                {"KH\x00" + derived[3:] + nonce + tag, "unknown format 0"},
		"format 3":                {"KH\x03" + derived[3:] + nonce + tag, "unknown format 3"},
		"kind 0":                  {"KH\x01\x00" + derived[4:] + nonce + tag, "unknown kind 0"},
		"kind 3":                  {"KH\x01\x03" + derived[4:] + nonce + tag, "unknown kind 3"},
		"derived without nonce":   {derived, "a nonce of 0 bytes"},
		"derived, short nonce":    {derived + nonce[1:], "a nonce of 23 bytes"},
		"derived without tag":     {derived + nonce, "ends within its tag: 0 bytes"},
		"derived, short tag":      {derived + nonce + tag[1:], "ends within its tag: 15 bytes"},
		"strict without length":   {strict, "ends before its nonce length"},
		"strict, nonce of 0":      {strict + "\x00" + nonce + tag, "a nonce of 0 bytes"},
		"strict, nonce of 13":     {strict + "\x0d" + nonce + tag, "a nonce of 13 bytes"},
		"strict, nonce of 24":     {strict + "\x18" + nonce + tag, "a nonce of 24 bytes"},
		"strict, nonce of 255":    {strict + "\xff" + nonce + tag, "a nonce of 40 bytes"},
		"strict, short nonce":     {strict + "\x0c" + nonce[:11], "a nonce of 11 bytes"},
		"strict, short tag":       {strict + "\x10" + nonce[:16] + tag[1:], "ends within its tag: 15 bytes"},
		"key of 0 bytes":          {wrapped + nonce + tag, "a plaintext of 0 bytes"},
		"key of 15 bytes":         {wrapped + nonce + strings.Repeat("c", 15) + tag, "a plaintext of 15 bytes"},
		"key of 65 bytes":         {wrapped + nonce + strings.Repeat("c", 65) + tag, "a plaintext of 65 bytes"},
		"data of 64 KiB and 1":    {derived + nonce + strings.Repeat("c", 65537) + tag, "a plaintext of 65537 bytes"},
		"strict data over 64 KiB": {strict + "\x0c" + nonce[:12] + strings.Repeat("c", 65537) + tag, "65537 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := envelope.Parse([]byte(c.in))
			if !errors.Is(err, envelope.ErrMalformed) || !strings.Contains(err.Error(), c.cause) {
				t.Errorf("got %v, want ErrMalformed with %q", err, c.cause)
			}
		})
	}
}

func TestAppendRefusesWhatDoesNotParse(t *testing.T) {
	for name, change := range map[string]func(*envelope.Blob){
		"format":          func(b *envelope.Blob) { b.Format = 3 },
		"kind":            func(b *envelope.Blob) { b.Kind = 0 },
		"nonce length":    func(b *envelope.Blob) { b.Nonce = b.Nonce[:12] },
		"no tag":          func(b *envelope.Blob) { b.Sealed = b.Sealed[:15] },
		"key size":        func(b *envelope.Blob) { b.Sealed = b.Sealed[:31] },
		"token's 32 IV":   func(b *envelope.Blob) { b.Format, b.Nonce = envelope.FormatStrict, sequence(0, 32) },
		"token's no IV":   func(b *envelope.Blob) { b.Format, b.Nonce = envelope.FormatStrict, nil },
		"oversized data":  func(b *envelope.Blob) { b.Kind, b.Sealed = envelope.KindData, make([]byte, 65536+17) },
		"the zero format": func(b *envelope.Blob) { *b = envelope.Blob{} },
	} {
		b := validBlobs()["derived wrapped key"]
		change(&b)
		if p, err := envelope.Append(nil, b); !errors.Is(err, envelope.ErrMalformed) || p != nil {
			t.Errorf("%s: got %d bytes and %v, want ErrMalformed", name, len(p), err)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	p, err := envelope.Append(nil, validBlobs()["derived wrapped key"])
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := envelope.Parse(p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		testUID().String():               "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
		envelope.FormatDerived.String():  "XAES-256-GCM",
		envelope.FormatStrict.String():   "AES-256-GCM in the HSM",
		envelope.Format(9).String():      "format 9",
		envelope.KindData.String():       "data",
		envelope.KindWrappedKey.String(): "wrapped data key",
		envelope.Kind(9).String():        "kind 9",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
