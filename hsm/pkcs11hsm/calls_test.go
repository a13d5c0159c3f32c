package pkcs11hsm_test

import (
	"testing"

	"github.com/keyholt/keyholt/hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// TestCalls: what is counted is what the module runs, so one for each piece of a long
// request for blocks and one for each GCM item, those that fail included.
func TestCalls(t *testing.T) {
	softhsmtest.Require(t)
	ctx := t.Context()
	soft := softhsmtest.New(t)
	cfg := soft.Config()
	cfg.MaxBlockBytes = 64
	token := soft.OpenWith(t, cfg)
	blocks, gcm := hsm.UID{1}, hsm.UID{2}
	for uid, spec := range map[hsm.UID]hsm.KeySpec{blocks: hsm.AES256Blocks, gcm: hsm.AES256GCM} {
		if _, err := token.GenerateKey(ctx, uid, "calls", spec); err != nil {
			t.Fatal(err)
		}
	}
	if calls := token.Calls(); calls.EncryptBlocks != 0 || calls.Seal != 0 || calls.Open != 0 {
		t.Errorf("%+v before any cipher", calls)
	}
	buffer := make([]byte, 160)
	if err := token.EncryptBlocks(ctx, blocks, buffer, buffer); err != nil {
		t.Fatal(err)
	}
	sealed := make([]hsm.SealItem, 3)
	for i := range sealed {
		sealed[i] = hsm.SealItem{Plaintext: []byte("p"), AAD: []byte("a")}
	}
	if err := token.Seal(ctx, gcm, sealed); err != nil {
		t.Fatal(err)
	}
	opened := []hsm.OpenItem{
		{Nonce: sealed[0].Nonce, Sealed: sealed[0].Sealed, AAD: []byte("a")},
		{Nonce: sealed[1].Nonce, Sealed: sealed[1].Sealed, AAD: []byte("another")},
	}
	if err := token.Open(ctx, gcm, opened); err != nil {
		t.Fatal(err)
	}
	if err := token.Random(ctx, make([]byte, 4097)); err != nil {
		t.Fatal(err)
	}
	if got, want := token.Calls(), (hsm.Calls{EncryptBlocks: 3, Seal: 3, Open: 2, Random: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if n := token.SessionsInUse(); n != 0 {
		t.Errorf("%d sessions in use at rest", n)
	}
}
