package envelope_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/kms/envelope"
)

func sealAll(t testing.TB, token *softToken, items []envelope.SealItem) []byte {
	t.Helper()
	derived, err := envelope.AppendSealBlocks(nil, token.maskKey(), items)
	if err != nil {
		t.Fatal(err)
	}
	token.encryptBlocks(derived)
	slab, err := envelope.SealItems(nil, derived, items)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "derived keys after sealing", derived, make([]byte, len(derived)))
	return slab
}

// openAll parses every blob and opens them in one batch.
func openAll(t testing.TB, token *softToken, sealed []envelope.SealItem) []envelope.OpenItem {
	t.Helper()
	items := make([]envelope.OpenItem, len(sealed))
	for i, s := range sealed {
		blob, err := envelope.Parse(s.Blob)
		if err != nil {
			t.Fatal(err)
		}
		items[i] = envelope.OpenItem{Blob: &blob, Binding: s.Binding}
	}
	derived, err := envelope.AppendOpenBlocks(nil, token.maskKey(), items)
	if err != nil {
		t.Fatal(err)
	}
	token.encryptBlocks(derived)
	if _, err := envelope.OpenItems(nil, derived, items); err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "derived keys after opening", derived, make([]byte, len(derived)))
	return items
}

// mixedItems alternates kinds, sizes and bindings, so that every change of AAD between neighbours occurs.
func mixedItems(t testing.TB, uid envelope.UID, n int) []envelope.SealItem {
	t.Helper()
	shared := mustBinding(t, map[string]string{"tenant": "acme"}, []byte("shared"))
	items := make([]envelope.SealItem, n)
	for i := range items {
		it := envelope.SealItem{Kind: envelope.KindData, UID: uid, Binding: shared, Plaintext: sequence(byte(i), i%50)}
		if i%3 == 1 {
			it.Kind, it.Plaintext = envelope.KindWrappedKey, sequence(byte(i), 16+i%49)
		}
		if i%5 == 0 {
			it.Binding = mustBinding(t, map[string]string{"item": fmt.Sprint(i)}, nil)
		}
		if i%7 == 0 {
			it.Binding = envelope.Binding{}
		}
		items[i] = it
	}
	return items
}

func TestBatchRoundTrip(t *testing.T) {
	token := testToken(t)
	sealed := mixedItems(t, token.uid, 300)
	sealAll(t, token, sealed)
	nonces := make(map[string]bool)
	for i, it := range openAll(t, token, sealed) {
		if it.Err != nil {
			t.Fatalf("item %d: %v", i, it.Err)
		}
		requireEqual(t, "plaintext", it.Plaintext, sealed[i].Plaintext)
		if it.Blob.Kind != sealed[i].Kind || it.Blob.UID != token.uid || it.Blob.Format != envelope.FormatDerived {
			t.Errorf("item %d: header %v %v %v", i, it.Blob.Format, it.Blob.Kind, it.Blob.UID)
		}
		nonces[string(it.Blob.Nonce)] = true
	}
	if len(nonces) != len(sealed) {
		t.Errorf("%d nonces for %d items", len(nonces), len(sealed))
	}
}

// Every blob of the batch must carry exactly the AAD of its own header and binding, whatever its neighbours have.
func TestBatchAADIsPerItem(t *testing.T) {
	key := sequence(0, 32)
	token, theirs := newSoftToken(t, key, testUID()), tinkXAES(t, key)
	items := mixedItems(t, token.uid, 120)
	sealAll(t, token, items)
	for i, it := range items {
		aad := it.Binding.AppendAAD(nil, envelope.NewHeader(envelope.FormatDerived, it.Kind, it.UID))
		if _, err := theirs.Decrypt(it.Blob[envelope.HeaderSize:], aad); err != nil {
			t.Errorf("item %d: %v", i, err)
		}
	}
}

func TestOneBadItemFailsAlone(t *testing.T) {
	token := testToken(t)
	sealed := mixedItems(t, token.uid, 50)
	sealAll(t, token, sealed)
	sealed[7].Blob[len(sealed[7].Blob)-1] ^= 1
	sealed[20].Binding = mustBinding(t, map[string]string{"tenant": "other"}, nil)
	for i, it := range openAll(t, token, sealed) {
		if i == 7 || i == 20 {
			if !errors.Is(it.Err, envelope.ErrOpen) || it.Plaintext != nil {
				t.Errorf("item %d: %v, %x", i, it.Err, it.Plaintext)
			}
			continue
		}
		if it.Err != nil {
			t.Errorf("item %d: %v", i, it.Err)
		}
		requireEqual(t, "plaintext", it.Plaintext, sealed[i].Plaintext)
	}
}

// Parts of one batch may be opened by themselves; results of an earlier use of an item do not survive.
func TestOpenInParts(t *testing.T) {
	token := testToken(t)
	sealed := mixedItems(t, token.uid, 40)
	sealAll(t, token, sealed)
	items := openAll(t, token, sealed)
	items[3].Binding = mustBinding(t, nil, []byte("changed"))
	derived, err := envelope.AppendOpenBlocks([]byte("0123456789abcdef"), token.maskKey(), items)
	if err != nil {
		t.Fatal(err)
	}
	derived = derived[16:]
	token.encryptBlocks(derived)
	for _, part := range [][2]int{{0, 10}, {10, 11}, {11, 40}} {
		i, j := part[0], part[1]
		if _, err := envelope.OpenItems(nil, derived[32*i:32*j], items[i:j]); err != nil {
			t.Fatal(err)
		}
	}
	for i, it := range items {
		if (it.Err != nil) != (i == 3) || (i == 3 && it.Plaintext != nil) {
			t.Errorf("item %d: %v", i, it.Err)
		}
	}
}

func TestBatchAppends(t *testing.T) {
	token := testToken(t)
	items := mixedItems(t, token.uid, 5)
	derived, err := envelope.AppendSealBlocks(nil, token.maskKey(), items)
	if err != nil {
		t.Fatal(err)
	}
	token.encryptBlocks(derived)
	slab, err := envelope.SealItems([]byte("kept"), derived, items)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte("kept")
	for _, it := range items {
		want = append(want, it.Blob...)
		if cap(it.Blob) != len(it.Blob) {
			t.Error("a blob has room to grow into its neighbour")
		}
	}
	requireEqual(t, "slab", slab, want)
}

func TestBatchRefuses(t *testing.T) {
	token := testToken(t)
	m := token.maskKey()
	wrapped := func(n int) []envelope.SealItem {
		return []envelope.SealItem{{Kind: envelope.KindWrappedKey, Plaintext: make([]byte, n)}}
	}
	for name, items := range map[string][]envelope.SealItem{
		"short data key": wrapped(15),
		"long data key":  wrapped(65),
		"long data":      {{Kind: envelope.KindData, Plaintext: make([]byte, 65537)}},
		"no kind":        {{Plaintext: make([]byte, 32)}},
	} {
		if p, err := envelope.AppendSealBlocks(nil, m, items); !errors.Is(err, envelope.ErrBatch) || p != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	blob := validBlobs()["strict nonce of 12"]
	strict := []envelope.OpenItem{{Blob: &blob}}
	if _, err := envelope.AppendOpenBlocks(nil, m, strict); !errors.Is(err, envelope.ErrBatch) {
		t.Errorf("format 2: got %v", err)
	}
	if _, err := envelope.OpenItems(nil, make([]byte, 31), strict); !errors.Is(err, envelope.ErrBatch) {
		t.Errorf("short derived keys: got %v", err)
	}
	if _, err := envelope.SealItems(nil, make([]byte, 64), wrapped(32)); !errors.Is(err, envelope.ErrBatch) {
		t.Errorf("too many derived keys: got %v", err)
	}
	if _, err := envelope.SealItems(nil, make([]byte, 32), wrapped(32)); !errors.Is(err, envelope.ErrBatch) {
		t.Errorf("no nonce drawn: got %v", err)
	}
	// Items that skipped AppendOpenBlocks are refused one by one, not with a panic.
	zero := make([]envelope.OpenItem, 1)
	for name, items := range map[string][]envelope.OpenItem{"format 2": strict, "zero item": zero} {
		_, err := envelope.OpenItems(nil, make([]byte, 32), items)
		if err != nil || !errors.Is(items[0].Err, envelope.ErrOpen) {
			t.Errorf("%s to OpenItems: got %v and %v", name, err, items[0].Err)
		}
	}
}

func TestNonceServesOnce(t *testing.T) {
	token := testToken(t)
	items := mixedItems(t, token.uid, 3)
	sealAll(t, token, items)
	first := bytes.Clone(items[0].Blob)
	if _, err := envelope.SealItems(nil, make([]byte, 96), items); !errors.Is(err, envelope.ErrBatch) {
		t.Errorf("sealing twice with one nonce: got %v", err)
	}
	sealAll(t, token, items)
	if bytes.Equal(first[20:44], items[0].Blob[20:44]) {
		t.Error("the second batch has the nonce of the first")
	}
}

// The garbage collector is the cost of a large batch: nothing but Go's own cipher states may be allocated per item.
func TestOpenAllocatesTwicePerItem(t *testing.T) {
	const n = 200
	token := testToken(t)
	sealed := make([]envelope.SealItem, n)
	for i := range sealed {
		sealed[i] = envelope.SealItem{Kind: envelope.KindWrappedKey, UID: token.uid, Plaintext: sequence(byte(i), 32)}
	}
	sealAll(t, token, sealed)
	items := openAll(t, token, sealed)
	m, blocks, slab := token.maskKey(), make([]byte, 0, 32*n), make([]byte, 0, 32*n)
	got := testing.AllocsPerRun(10, func() {
		derived, err := envelope.AppendOpenBlocks(blocks, m, items)
		if err != nil {
			t.Fatal(err)
		}
		token.encryptBlocks(derived)
		if _, err := envelope.OpenItems(slab, derived, items); err != nil {
			t.Fatal(err)
		}
	})
	// One more for the AAD that the batch shares.
	if got > 2*n+1 {
		t.Errorf("%v allocations for %d items", got, n)
	}
	for i, it := range items {
		if it.Err != nil {
			t.Fatalf("item %d: %v", i, it.Err)
		}
	}
}

func TestEmptyBatch(t *testing.T) {
	token := testToken(t)
	derived, err := envelope.AppendOpenBlocks(nil, token.maskKey(), nil)
	if err != nil || len(derived) != 0 {
		t.Fatalf("got %x, %v", derived, err)
	}
	if out, err := envelope.OpenItems(nil, derived, nil); err != nil || len(out) != 0 {
		t.Errorf("got %x, %v", out, err)
	}
	if out, err := envelope.SealItems(nil, derived, nil); err != nil || len(out) != 0 {
		t.Errorf("got %x, %v", out, err)
	}
}

// What is opened is the nonce and the sealed bytes that a blob has, not the bytes that they were parsed from.
func TestPartsOfAParsedBlobCanBeReplaced(t *testing.T) {
	token := testToken(t)
	items := mixedItems(t, token.uid, 2)
	items[1].Binding, items[1].Kind, items[1].UID = items[0].Binding, items[0].Kind, items[0].UID
	items[0].Plaintext, items[1].Plaintext = sequence(1, 32), sequence(2, 32)
	sealAll(t, token, items)
	first, second := parsed(t, items[0].Blob), parsed(t, items[1].Blob)
	first.Nonce, first.Sealed = second.Nonce, bytes.Clone(second.Sealed)
	opened := []envelope.OpenItem{{Blob: first, Binding: items[0].Binding}}
	derived, err := envelope.AppendOpenBlocks(nil, token.maskKey(), opened)
	if err != nil {
		t.Fatal(err)
	}
	token.encryptBlocks(derived)
	if _, err := envelope.OpenItems(nil, derived, opened); err != nil {
		t.Fatal(err)
	}
	if opened[0].Err != nil {
		t.Fatal(opened[0].Err)
	}
	requireEqual(t, "plaintext", opened[0].Plaintext, items[1].Plaintext)
}

func parsed(t *testing.T, p []byte) *envelope.Blob {
	t.Helper()
	blob, err := envelope.Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	return &blob
}
