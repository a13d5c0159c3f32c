package hsmtest

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"sync"

	"github.com/keyholt/keyholt/hsm"
)

// MemoryToken is one login to a [Memory].
type MemoryToken struct {
	memory *Memory

	// mu is held for reading by every call, so that Close waits for calls in
	// flight; it also guards what follows.
	mu     sync.RWMutex
	closed bool

	sessionMu   sync.RWMutex
	sessionKeys map[hsm.UID]*memoryKey
}

var _ hsm.Token = (*MemoryToken)(nil)

// enter begins a call. If it returns nil, the caller must call t.mu.RUnlock.
func (t *MemoryToken) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.RLock()
	if t.closed {
		t.mu.RUnlock()
		return hsm.ErrClosed
	}
	return nil
}

// Info implements [hsm.Token].
func (t *MemoryToken) Info() hsm.Info {
	return t.memory.info.Clone()
}

// Check implements [hsm.Token].
func (t *MemoryToken) Check(ctx context.Context) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	t.mu.RUnlock()
	return nil
}

// Close implements [hsm.Token]. The objects stay in the [Memory]; session keys go.
func (t *MemoryToken) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	clear(t.sessionKeys)
	return nil
}

// find looks a key up for a use. The caller holds memory.mu for reading.
func (t *MemoryToken) find(uid hsm.UID) (*memoryKey, error) {
	if k, ok := t.memory.objects[uid]; ok {
		return k, nil
	}
	t.sessionMu.RLock()
	defer t.sessionMu.RUnlock()
	if k, ok := t.sessionKeys[uid]; ok {
		return k, nil
	}
	return nil, fmt.Errorf("%w: %s", hsm.ErrKeyNotFound, uid)
}

// use looks a key up and checks that it may do what spec does.
func (t *MemoryToken) use(uid hsm.UID, spec hsm.KeySpec) (*memoryKey, error) {
	k, err := t.find(uid)
	if err != nil {
		return nil, err
	}
	if k.spec != spec || !k.usable {
		return nil, fmt.Errorf("%w: %s", hsm.ErrKeyNotPermitted, uid)
	}
	return k, nil
}

// EncryptBlocks implements [hsm.BlockCipher].
func (t *MemoryToken) EncryptBlocks(ctx context.Context, key hsm.UID, dst, src []byte) error {
	if err := hsm.CheckBlocks(dst, src); err != nil {
		return err
	}
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.mu.RUnlock()
	limit := t.memory.cfg.MaxBlockBytes
	for len(src) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(len(src), limit)
		if err := t.encryptPiece(key, dst[:n], src[:n]); err != nil {
			return err
		}
		dst, src = dst[n:], src[n:]
	}
	return nil
}

// encryptPiece is one crossing.
func (t *MemoryToken) encryptPiece(key hsm.UID, dst, src []byte) error {
	t.memory.mu.RLock()
	defer t.memory.mu.RUnlock()
	k, err := t.use(key, hsm.AES256Blocks)
	if err != nil {
		return err
	}
	for i := 0; i < len(src); i += hsm.BlockSize {
		k.block.Encrypt(dst[i:i+hsm.BlockSize], src[i:i+hsm.BlockSize])
	}
	return nil
}

// Seal implements [hsm.GCM].
func (t *MemoryToken) Seal(ctx context.Context, key hsm.UID, items []hsm.SealItem) error {
	size := 12
	if t.memory.cfg.NonceSize != 0 {
		size = t.memory.cfg.NonceSize
	}
	for i := range items {
		items[i].Nonce, items[i].Sealed, items[i].Err = nil, nil, nil
	}
	err := t.eachItem(ctx, key, len(items), isSpec(hsm.AES256GCM), func(k *memoryKey, i int) {
		item := &items[i]
		if len(item.AAD) == 0 {
			item.Err = fmt.Errorf("%w: empty additional authenticated data", hsm.ErrArgument)
			return
		}
		aead, err := cipher.NewGCMWithNonceSize(k.block, size)
		if err != nil {
			item.Err = fmt.Errorf("%w: %w", hsm.ErrArgument, err)
			return
		}
		nonce := make([]byte, size)
		rand.Read(nonce)
		item.Nonce = nonce
		item.Sealed = aead.Seal(nil, nonce, item.Plaintext, item.AAD)
	})
	if err != nil {
		for i := range items {
			items[i].Nonce, items[i].Sealed, items[i].Err = nil, nil, nil
		}
	}
	return err
}

// Open implements [hsm.GCM].
func (t *MemoryToken) Open(ctx context.Context, key hsm.UID, items []hsm.OpenItem) error {
	for i := range items {
		items[i].Plaintext, items[i].Err = nil, nil
	}
	err := t.eachItem(ctx, key, len(items), isSpec(hsm.AES256GCM), func(k *memoryKey, i int) {
		item := &items[i]
		if n := len(item.Nonce); n != 12 && n != 16 {
			item.Err = fmt.Errorf("%w: a nonce of %d bytes", hsm.ErrArgument, n)
			return
		}
		if len(item.Sealed) < hsm.TagSize || len(item.AAD) == 0 {
			item.Err = fmt.Errorf("%w: no tag or empty additional authenticated data", hsm.ErrArgument)
			return
		}
		aead, err := cipher.NewGCMWithNonceSize(k.block, len(item.Nonce))
		if err != nil {
			item.Err = fmt.Errorf("%w: %w", hsm.ErrArgument, err)
			return
		}
		plaintext, err := aead.Open(nil, item.Nonce, item.Sealed, item.AAD)
		if err != nil {
			item.Err = hsm.ErrAuthentication
			return
		}
		item.Plaintext = plaintext
	})
	if err != nil {
		for i := range items {
			clear(items[i].Plaintext)
			items[i].Plaintext, items[i].Err = nil, nil
		}
	}
	return err
}

// isSpec is a check that a key is of one specification.
func isSpec(want hsm.KeySpec) func(hsm.KeySpec) error {
	return func(spec hsm.KeySpec) error {
		if spec != want {
			return fmt.Errorf("%w: no %s key", hsm.ErrKeyNotPermitted, want)
		}
		return nil
	}
}

// eachItem runs op for items 0 to n-1 under a key that passes check, one crossing per item.
func (t *MemoryToken) eachItem(ctx context.Context, key hsm.UID, n int, check func(hsm.KeySpec) error, op func(k *memoryKey, i int)) error {
	if n == 0 {
		return fmt.Errorf("%w: no items", hsm.ErrArgument)
	}
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.mu.RUnlock()
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.oneItem(key, i, check, op); err != nil {
			return err
		}
	}
	return nil
}

func (t *MemoryToken) oneItem(key hsm.UID, i int, check func(hsm.KeySpec) error, op func(k *memoryKey, i int)) error {
	t.memory.mu.RLock()
	defer t.memory.mu.RUnlock()
	k, err := t.find(key)
	if err != nil {
		return err
	}
	if err := check(k.spec); err != nil {
		return err
	}
	if !k.usable {
		return fmt.Errorf("%w: %s", hsm.ErrKeyNotPermitted, key)
	}
	op(k, i)
	return nil
}

// GenerateKey implements [hsm.Objects].
func (t *MemoryToken) GenerateKey(ctx context.Context, uid hsm.UID, label string, spec hsm.KeySpec) (hsm.Object, error) {
	if err := t.checkSpec(spec); err != nil {
		return hsm.Object{}, err
	}
	if err := t.enter(ctx); err != nil {
		return hsm.Object{}, err
	}
	defer t.mu.RUnlock()
	k, err := t.memory.generate(label, spec)
	if err != nil {
		return hsm.Object{}, err
	}
	t.memory.mu.Lock()
	defer t.memory.mu.Unlock()
	if _, err := t.find(uid); err == nil {
		return hsm.Object{}, fmt.Errorf("%w: %s", hsm.ErrKeyExists, uid)
	}
	t.memory.objects[uid] = k
	return t.memory.object(uid, k), nil
}

// checkSpec tells a specification that does not exist from one that this token lacks.
func (t *MemoryToken) checkSpec(spec hsm.KeySpec) error {
	if !spec.Valid() {
		return fmt.Errorf("%w: key specification %d", hsm.ErrArgument, spec)
	}
	if !t.memory.info.Supports(spec) {
		return fmt.Errorf("%w: %s", hsm.ErrUnsupported, spec)
	}
	return nil
}

// ImportSessionKey implements [hsm.Objects].
func (t *MemoryToken) ImportSessionKey(ctx context.Context, uid hsm.UID, spec hsm.KeySpec, value []byte) error {
	if err := t.checkSpec(spec); err != nil {
		return err
	}
	if spec.IsPair() {
		return fmt.Errorf("%w: session keys of %s", hsm.ErrUnsupported, spec)
	}
	if len(value) != spec.Size() {
		return fmt.Errorf("%w: a key of %d bytes", hsm.ErrArgument, len(value))
	}
	if t.memory.cfg.NoSessionKeys {
		return fmt.Errorf("%w: session keys", hsm.ErrUnsupported)
	}
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.mu.RUnlock()
	k, err := newMemoryKey("", spec, value)
	if err != nil {
		return err
	}
	t.memory.mu.RLock()
	defer t.memory.mu.RUnlock()
	if _, err := t.find(uid); err == nil {
		return fmt.Errorf("%w: %s", hsm.ErrKeyExists, uid)
	}
	t.sessionMu.Lock()
	defer t.sessionMu.Unlock()
	t.sessionKeys[uid] = k
	return nil
}

// Keys implements [hsm.Objects].
func (t *MemoryToken) Keys(ctx context.Context) ([]hsm.Object, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.mu.RUnlock()
	t.memory.mu.RLock()
	defer t.memory.mu.RUnlock()
	objects := make([]hsm.Object, 0, len(t.memory.objects))
	for uid, k := range t.memory.objects {
		objects = append(objects, t.memory.object(uid, k))
	}
	return objects, nil
}

// Key implements [hsm.Objects].
func (t *MemoryToken) Key(ctx context.Context, uid hsm.UID) (hsm.Object, error) {
	if err := t.enter(ctx); err != nil {
		return hsm.Object{}, err
	}
	defer t.mu.RUnlock()
	t.memory.mu.RLock()
	defer t.memory.mu.RUnlock()
	k, ok := t.memory.objects[uid]
	if !ok {
		return hsm.Object{}, fmt.Errorf("%w: %s", hsm.ErrKeyNotFound, uid)
	}
	return t.memory.object(uid, k), nil
}

// SetUsable implements [hsm.Objects].
func (t *MemoryToken) SetUsable(ctx context.Context, uid hsm.UID, usable bool) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.mu.RUnlock()
	if t.memory.cfg.NoUsageSwitch {
		return fmt.Errorf("%w: usage attributes are fixed", hsm.ErrUnsupported)
	}
	return t.memory.TamperUsable(uid, usable)
}

// SetLabel implements [hsm.Objects].
func (t *MemoryToken) SetLabel(ctx context.Context, uid hsm.UID, label string) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.mu.RUnlock()
	if t.memory.cfg.NoLabelSwitch {
		return fmt.Errorf("%w: labels are fixed", hsm.ErrUnsupported)
	}
	return t.memory.TamperLabel(uid, label)
}

// DestroyKey implements [hsm.Objects].
func (t *MemoryToken) DestroyKey(ctx context.Context, uid hsm.UID) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.mu.RUnlock()
	t.sessionMu.Lock()
	_, ok := t.sessionKeys[uid]
	delete(t.sessionKeys, uid)
	t.sessionMu.Unlock()
	if ok {
		return nil
	}
	return t.memory.TamperDelete(uid)
}

// Random implements [hsm.Random].
func (t *MemoryToken) Random(ctx context.Context, p []byte) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.mu.RUnlock()
	rand.Read(p)
	return nil
}
