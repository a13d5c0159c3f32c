package hsmtest

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/keyholt/keyholt/hsm"
)

// Sign implements [hsm.Signer].
func (t *MemoryToken) Sign(ctx context.Context, key hsm.UID, scheme hsm.Scheme, input []byte) ([]byte, error) {
	items := []hsm.SignItem{{Input: input}}
	if err := t.SignBatch(ctx, key, scheme, items); err != nil {
		return nil, err
	}
	return items[0].Signature, items[0].Err
}

// SignBatch implements [hsm.Signer].
func (t *MemoryToken) SignBatch(ctx context.Context, key hsm.UID, scheme hsm.Scheme, items []hsm.SignItem) error {
	for i := range items {
		items[i].Signature, items[i].Err = nil, nil
	}
	if !scheme.Valid() {
		return fmt.Errorf("%w: signature scheme %d", hsm.ErrArgument, scheme)
	}
	check := func(spec hsm.KeySpec) error { return hsm.CheckScheme(spec, scheme) }
	err := t.eachItem(ctx, key, len(items), check, func(k *memoryKey, i int) {
		item := &items[i]
		if item.Err = hsm.CheckSignInput(k.spec, scheme, item.Input); item.Err != nil {
			return
		}
		signature, err := k.sign(scheme, item.Input)
		if err != nil {
			item.Err = fmt.Errorf("%w: %w", hsm.ErrUnavailable, err)
			return
		}
		item.Signature = signature
	})
	if err != nil {
		for i := range items {
			items[i].Signature, items[i].Err = nil, nil
		}
	}
	return err
}

// MAC implements [hsm.MAC].
func (t *MemoryToken) MAC(ctx context.Context, key hsm.UID, message []byte) ([]byte, error) {
	items := []hsm.MACItem{{Message: message}}
	if err := t.MACBatch(ctx, key, items); err != nil {
		return nil, err
	}
	return items[0].Tag, items[0].Err
}

// MACBatch implements [hsm.MAC].
func (t *MemoryToken) MACBatch(ctx context.Context, key hsm.UID, items []hsm.MACItem) error {
	for i := range items {
		items[i].Tag, items[i].Err = nil, nil
	}
	err := t.eachItem(ctx, key, len(items), hasUsage(hsm.UsageMAC), func(k *memoryKey, i int) {
		item := &items[i]
		if item.Err = hsm.CheckMessage(item.Message); item.Err == nil {
			item.Tag = k.tag(item.Message)
		}
	})
	if err != nil {
		for i := range items {
			items[i].Tag, items[i].Err = nil, nil
		}
	}
	return err
}

// hasUsage is a check of what a key is for.
func hasUsage(want hsm.Usage) func(hsm.KeySpec) error {
	return func(spec hsm.KeySpec) error {
		if spec.Usage() != want {
			return fmt.Errorf("%w: a key of %s", hsm.ErrKeyNotPermitted, spec)
		}
		return nil
	}
}

// DecryptOAEP implements [hsm.Decrypter].
func (t *MemoryToken) DecryptOAEP(ctx context.Context, key hsm.UID, hash crypto.Hash, ciphertext, label []byte) ([]byte, error) {
	if !slices.Contains(hsm.OAEPHashes(), hash) {
		return nil, fmt.Errorf("%w: RSA-OAEP with %v", hsm.ErrArgument, hash)
	}
	check := func(spec hsm.KeySpec) error {
		if err := hasUsage(hsm.UsageDecrypt)(spec); err != nil {
			return err
		}
		if !t.memory.info.Decrypts(hash) || len(label) > 0 && !t.memory.info.OAEPLabels {
			return fmt.Errorf("%w: RSA-OAEP with %v", hsm.ErrUnsupported, hash)
		}
		return hsm.CheckOAEP(spec, hash, ciphertext)
	}
	var plaintext []byte
	var failed error
	err := t.eachItem(ctx, key, 1, check, func(k *memoryKey, _ int) { plaintext, failed = k.openOAEP(hash, ciphertext, label) })
	if err != nil {
		return nil, err
	}
	return plaintext, failed
}

func (k *memoryKey) openOAEP(hash crypto.Hash, ciphertext, label []byte) ([]byte, error) {
	key, ok := k.private.(*rsa.PrivateKey)
	if !ok {
		return nil, hsm.ErrKeyNotPermitted
	}
	plaintext, err := rsa.DecryptOAEP(hash.New(), nil, key, ciphertext, label)
	if err != nil {
		return nil, hsm.ErrAuthentication
	}
	return plaintext, nil
}

// PublicKey implements [hsm.PublicKeys].
func (t *MemoryToken) PublicKey(ctx context.Context, key hsm.UID) ([]byte, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.mu.RUnlock()
	t.memory.mu.RLock()
	defer t.memory.mu.RUnlock()
	k, err := t.find(key)
	if err != nil {
		return nil, err
	}
	if k.private == nil {
		return nil, fmt.Errorf("%w: %s is no key pair", hsm.ErrKeyNotPermitted, key)
	}
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hsm.ErrUnavailable, err)
	}
	return der, nil
}

// errUnwrap is what every wrapping that does not open gives.
var errUnwrap = fmt.Errorf("%w: the wrapped key does not open", hsm.ErrAuthentication)

// UnwrapKey implements [hsm.Importer].
func (t *MemoryToken) UnwrapKey(ctx context.Context, uid hsm.UID, label string, spec hsm.KeySpec, w hsm.Wrapped) (hsm.Object, error) {
	public, err := hsm.CheckWrapped(spec, &w)
	if err != nil {
		return hsm.Object{}, err
	}
	if !t.memory.info.CanImport(spec) || !slices.Contains(t.memory.info.ImportHashes, w.Hash) {
		return hsm.Object{}, fmt.Errorf("%w: importing %s with RSA-OAEP and %v", hsm.ErrUnsupported, spec, w.Hash)
	}
	if err := t.enter(ctx); err != nil {
		return hsm.Object{}, err
	}
	defer t.mu.RUnlock()
	t.memory.mu.Lock()
	defer t.memory.mu.Unlock()
	by, err := t.find(w.By)
	if err != nil {
		return hsm.Object{}, err
	}
	if by.spec.Usage() != hsm.UsageImport || !by.usable {
		return hsm.Object{}, fmt.Errorf("%w: %s", hsm.ErrKeyNotPermitted, w.By)
	}
	if err := hsm.CheckOAEP(by.spec, w.Hash, w.Key); err != nil {
		return hsm.Object{}, err
	}
	if _, err := t.find(uid); err == nil {
		return hsm.Object{}, fmt.Errorf("%w: %s", hsm.ErrKeyExists, uid)
	}
	k, err := by.unwrap(label, spec, w, public)
	if err != nil {
		return hsm.Object{}, err
	}
	t.memory.objects[uid] = k
	return t.memory.object(uid, k), nil
}

// unwrap opens a wrapped key in two steps.
func (k *memoryKey) unwrap(label string, spec hsm.KeySpec, w hsm.Wrapped, public any) (*memoryKey, error) {
	kek, err := k.openOAEP(w.Hash, w.Key, nil)
	if err != nil || len(kek) != 32 {
		return nil, errUnwrap
	}
	defer clear(kek)
	value, err := hsm.UnwrapAES(kek, w.Value)
	if err != nil {
		return nil, errUnwrap
	}
	defer clear(value)
	if !spec.IsPair() {
		if len(value) != spec.Size() {
			return nil, fmt.Errorf("%w: the wrapped key is no %s", hsm.ErrArgument, spec)
		}
		return newMemoryKey(label, spec, value)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(value)
	private, ok := parsed.(crypto.Signer)
	if err != nil || !ok {
		return nil, errUnwrap
	}
	if err := hsm.CheckPublicKey(spec, private.Public()); err != nil {
		return nil, fmt.Errorf("the wrapped key: %w", err)
	}
	if err := hsm.CheckImportedModulus(private.Public()); err != nil {
		return nil, fmt.Errorf("the wrapped key: %w", err)
	}
	type equaler interface{ Equal(crypto.PublicKey) bool }
	if own, ok := private.Public().(equaler); public != nil && (!ok || !own.Equal(public)) {
		return nil, fmt.Errorf("%w: the public key does not belong to the private key", hsm.ErrArgument)
	}
	return &memoryKey{label: label, spec: spec, usable: true, private: private}, nil
}
