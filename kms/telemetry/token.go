package telemetry

import (
	"context"
	"crypto"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/keyholt/keyholt/hsm"
)

// Token returns inner, watched by both, either of which may be nil. What it sees are the
// calls that reach inner: it belongs below what merges calls.
//
// inner may have methods Calls() hsm.Calls and SessionsInUse() int; then their numbers are
// metrics too. A process has one such token.
func Token(inner hsm.Token, m *Metrics, t *Tracing) hsm.Token {
	if m == nil && t == nil {
		return inner
	}
	watched := &token{Token: inner, tracing: t}
	if m != nil {
		watched.metrics = &m.token
		m.token.source.Store(newTokenSource(inner))
	}
	return watched
}

// token passes on Info and Close as they are.
type token struct {
	hsm.Token
	metrics *tokenMetrics // nil: none
	tracing *Tracing      // nil: none
}

// call is one call of the token under way.
type call struct {
	token *token
	op    operation
	bytes int
	began time.Time
	span  trace.Span // nil: none
}

// begin is called before inner is, with the context that it then gets.
func (t *token) begin(ctx context.Context, op operation, bytes, items int) (context.Context, call) {
	c := call{token: t, op: op, bytes: bytes}
	ctx, c.span = t.tracing.beginToken(ctx, op, bytes, items)
	if t.metrics != nil {
		c.began = time.Now()
	}
	return ctx, c
}

// end takes how inner answered.
func (c *call) end(err error) {
	if m := c.token.metrics; m != nil {
		m.observe(c.op, c.bytes, time.Since(c.began), err)
	}
	if c.span != nil {
		endToken(c.span, err)
	}
}

// EncryptBlocks implements [hsm.BlockCipher].
func (t *token) EncryptBlocks(ctx context.Context, key hsm.UID, dst, src []byte) error {
	ctx, c := t.begin(ctx, opEncryptBlocks, len(src), 1)
	err := t.Token.EncryptBlocks(ctx, key, dst, src)
	c.end(err)
	return err
}

// Seal implements [hsm.GCM].
func (t *token) Seal(ctx context.Context, key hsm.UID, items []hsm.SealItem) error {
	size := 0
	for i := range items {
		size += len(items[i].Plaintext) + len(items[i].AAD)
	}
	ctx, c := t.begin(ctx, opSeal, size, len(items))
	err := t.Token.Seal(ctx, key, items)
	c.end(err)
	return err
}

// Open implements [hsm.GCM].
func (t *token) Open(ctx context.Context, key hsm.UID, items []hsm.OpenItem) error {
	size := 0
	for i := range items {
		size += len(items[i].Sealed) + len(items[i].AAD)
	}
	ctx, c := t.begin(ctx, opOpen, size, len(items))
	err := t.Token.Open(ctx, key, items)
	c.end(err)
	return err
}

// Sign implements [hsm.Signer], as does SignBatch.
func (t *token) Sign(ctx context.Context, key hsm.UID, scheme hsm.Scheme, input []byte) ([]byte, error) {
	ctx, c := t.begin(ctx, opSign, len(input), 1)
	signature, err := t.Token.Sign(ctx, key, scheme, input)
	c.end(err)
	return signature, err
}

func (t *token) SignBatch(ctx context.Context, key hsm.UID, scheme hsm.Scheme, items []hsm.SignItem) error {
	size := 0
	for i := range items {
		size += len(items[i].Input)
	}
	ctx, c := t.begin(ctx, opSignBatch, size, len(items))
	err := t.Token.SignBatch(ctx, key, scheme, items)
	c.end(err)
	return err
}

// MAC implements [hsm.MAC], as does MACBatch.
func (t *token) MAC(ctx context.Context, key hsm.UID, message []byte) ([]byte, error) {
	ctx, c := t.begin(ctx, opMAC, len(message), 1)
	tag, err := t.Token.MAC(ctx, key, message)
	c.end(err)
	return tag, err
}

func (t *token) MACBatch(ctx context.Context, key hsm.UID, items []hsm.MACItem) error {
	size := 0
	for i := range items {
		size += len(items[i].Message)
	}
	ctx, c := t.begin(ctx, opMACBatch, size, len(items))
	err := t.Token.MACBatch(ctx, key, items)
	c.end(err)
	return err
}

// DecryptOAEP implements [hsm.Decrypter].
func (t *token) DecryptOAEP(ctx context.Context, key hsm.UID, hash crypto.Hash, ciphertext, label []byte) ([]byte, error) {
	ctx, c := t.begin(ctx, opDecryptOAEP, len(ciphertext), 1)
	plaintext, err := t.Token.DecryptOAEP(ctx, key, hash, ciphertext, label)
	c.end(err)
	return plaintext, err
}

// PublicKey implements [hsm.PublicKeys].
func (t *token) PublicKey(ctx context.Context, key hsm.UID) ([]byte, error) {
	ctx, c := t.begin(ctx, opPublicKey, 0, 1)
	public, err := t.Token.PublicKey(ctx, key)
	c.end(err)
	return public, err
}

// UnwrapKey implements [hsm.Importer].
func (t *token) UnwrapKey(ctx context.Context, uid hsm.UID, label string, spec hsm.KeySpec, w hsm.Wrapped) (hsm.Object, error) {
	ctx, c := t.begin(ctx, opUnwrapKey, len(w.Key)+len(w.Value), 1)
	object, err := t.Token.UnwrapKey(ctx, uid, label, spec, w)
	c.end(err)
	return object, err
}

// Random implements [hsm.Random].
func (t *token) Random(ctx context.Context, p []byte) error {
	ctx, c := t.begin(ctx, opRandom, len(p), 1)
	err := t.Token.Random(ctx, p)
	c.end(err)
	return err
}

// GenerateKey implements [hsm.Objects], as do the methods that follow.
func (t *token) GenerateKey(ctx context.Context, uid hsm.UID, label string, spec hsm.KeySpec) (hsm.Object, error) {
	ctx, c := t.begin(ctx, opGenerateKey, 0, 1)
	object, err := t.Token.GenerateKey(ctx, uid, label, spec)
	c.end(err)
	return object, err
}

func (t *token) ImportSessionKey(ctx context.Context, uid hsm.UID, spec hsm.KeySpec, value []byte) error {
	ctx, c := t.begin(ctx, opImportSessionKey, len(value), 1)
	err := t.Token.ImportSessionKey(ctx, uid, spec, value)
	c.end(err)
	return err
}

func (t *token) Keys(ctx context.Context) ([]hsm.Object, error) {
	ctx, c := t.begin(ctx, opKeys, 0, 1)
	objects, err := t.Token.Keys(ctx)
	c.end(err)
	return objects, err
}

func (t *token) Key(ctx context.Context, uid hsm.UID) (hsm.Object, error) {
	ctx, c := t.begin(ctx, opKey, 0, 1)
	object, err := t.Token.Key(ctx, uid)
	c.end(err)
	return object, err
}

func (t *token) SetUsable(ctx context.Context, uid hsm.UID, usable bool) error {
	ctx, c := t.begin(ctx, opSetUsable, 0, 1)
	err := t.Token.SetUsable(ctx, uid, usable)
	c.end(err)
	return err
}

func (t *token) SetLabel(ctx context.Context, uid hsm.UID, label string) error {
	ctx, c := t.begin(ctx, opSetLabel, 0, 1)
	err := t.Token.SetLabel(ctx, uid, label)
	c.end(err)
	return err
}

func (t *token) DestroyKey(ctx context.Context, uid hsm.UID) error {
	ctx, c := t.begin(ctx, opDestroyKey, 0, 1)
	err := t.Token.DestroyKey(ctx, uid)
	c.end(err)
	return err
}

// Check implements [hsm.Token].
func (t *token) Check(ctx context.Context) error {
	ctx, c := t.begin(ctx, opCheck, 0, 1)
	err := t.Token.Check(ctx)
	c.end(err)
	return err
}
