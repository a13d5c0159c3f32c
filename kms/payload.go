package kms

import (
	"context"

	"github.com/keyholt/keyholt/kms/envelope"
)

// Encrypt encrypts a small payload under the primary version of a key.
func (s *Service) Encrypt(ctx context.Context, p Principal, r *EncryptRequest) (*EncryptResult, error) {
	bound, err := bind(r.Binding)
	c := &dataCall{
		principal: p, action: ActionEncrypt, parent: r.Key.Namespace(), context: r.Binding.Context,
		kind: envelope.KindData, seals: sealAll, sealAction: ActionEncrypt, borrowed: true,
		invalid: firstError(required("key", r.Key.IsZero()), checkPlaintext(r.Plaintext), err),
	}
	c.items = []item{{under: r.Key, rebound: &bound, plaintext: r.Plaintext}}
	if err := s.performOne(ctx, c); err != nil {
		return nil, err
	}
	it := &c.items[0]
	return &EncryptResult{Ciphertext: it.ciphertext, Version: nameOf(it.sealed)}, nil
}

// Decrypt returns the plaintext of what Encrypt made.
func (s *Service) Decrypt(ctx context.Context, p Principal, r *DecryptRequest) (*DecryptResult, error) {
	bound, err := bind(r.Binding)
	c := &dataCall{
		principal: p, action: ActionDecrypt, parent: r.Parent, context: r.Binding.Context,
		kind: envelope.KindData, opens: true, openAction: ActionDecrypt, openUse: useOpen,
		invalid: firstError(required("parent", r.Parent.IsZero()), err),
	}
	c.items = []item{{expect: r.Key, bound: &bound}}
	c.items[0].parse(r.Ciphertext)
	if err := s.performOne(ctx, c); err != nil {
		return nil, err
	}
	it := &c.items[0]
	return &DecryptResult{Plaintext: it.plaintext, Version: nameOf(it.opened)}, nil
}

// ReEncrypt makes a new ciphertext of the same plaintext, which stays inside.
func (s *Service) ReEncrypt(ctx context.Context, p Principal, r *ReEncryptRequest) (*ReEncryptResult, error) {
	bound, err := bind(r.Source)
	rebound, destinationErr := bound, error(nil)
	if r.Destination != nil {
		rebound, destinationErr = bind(*r.Destination)
	}
	c := &dataCall{
		principal: p, action: ActionReEncryptFrom, parent: r.Parent, context: r.Source.Context,
		kind: envelope.KindData, opens: true, openAction: ActionReEncryptFrom, openUse: useRewrap,
		seals: sealAll, sealAction: ActionReEncryptTo,
		invalid: firstError(required("parent", r.Parent.IsZero()), err, destinationErr),
	}
	if r.Destination != nil {
		c.newContext = &r.Destination.Context
	}
	c.items = []item{{expect: r.SourceKey, under: r.Key, bound: &bound, rebound: &rebound}}
	c.items[0].parse(r.Ciphertext)
	if err := s.performOne(ctx, c); err != nil {
		return nil, err
	}
	it := &c.items[0]
	it.plaintext.Wipe()
	return &ReEncryptResult{Ciphertext: it.ciphertext, Source: nameOf(it.opened), Version: nameOf(it.sealed)}, nil
}

// performOne is performData for a call with one item, whose outcome is the call's.
func (s *Service) performOne(ctx context.Context, c *dataCall) error {
	if err := s.performData(ctx, c); err != nil {
		return err
	}
	if err := c.items[0].err; err != nil {
		c.discardAll()
		return err
	}
	return nil
}

// GenerateRandom returns random bytes of the token.
func (s *Service) GenerateRandom(ctx context.Context, p Principal, size int) (Secret, error) {
	var random Secret
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionGenerateRandom, invalid: checkRandomSize(size),
		work: func(ctx context.Context) error {
			random = make([]byte, size)
			if err := s.token.Random(ctx, random); err != nil {
				return tokenError(err, "draw random bytes")
			}
			return nil
		},
	})
	if err != nil {
		random.Wipe()
		return nil, err
	}
	return random, nil
}
