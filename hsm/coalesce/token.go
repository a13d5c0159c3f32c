package coalesce

import (
	"context"

	"github.com/keyholt/keyholt/hsm"
)

// Token is an [hsm.Token] whose block requests are coalesced. All other methods are
// those of the token behind it.
type Token struct {
	hsm.Token
	blocks *Coalescer
}

var _ hsm.Token = (*Token)(nil)

// NewToken puts a [Coalescer] in front of a token, which from then on belongs to
// what is returned. Bounds that are not set come from the token's Info.
func NewToken(inner hsm.Token, cfg Config) *Token {
	info := inner.Info()
	setDefault(&cfg.MaxBytes, info.MaxBlockBytes)
	setDefault(&cfg.MaxCalls, info.Sessions)
	return &Token{Token: inner, blocks: New(inner, cfg)}
}

// EncryptBlocks implements [hsm.BlockCipher], as [Coalescer.EncryptBlocks] does.
func (t *Token) EncryptBlocks(ctx context.Context, key hsm.UID, dst, src []byte) error {
	return t.blocks.EncryptBlocks(ctx, key, dst, src)
}

// EncryptBlocksIf is as [Coalescer.EncryptBlocksIf].
func (t *Token) EncryptBlocksIf(ctx context.Context, key hsm.UID, dst, src []byte, admit func() error) error {
	return t.blocks.EncryptBlocksIf(ctx, key, dst, src, admit)
}

// Stats returns the counters of the Coalescer.
func (t *Token) Stats() Stats { return t.blocks.Stats() }

// Close implements [hsm.Token]: what was accepted is served, then the token is closed.
func (t *Token) Close() error {
	_ = t.blocks.Close() // returns nil
	return t.Token.Close()
}
