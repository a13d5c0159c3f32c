package hsmtest

import (
	"context"
	"crypto"

	"github.com/keyholt/keyholt/hsm"
)

// Info implements [hsm.Token].
func (f *Faults) Info() hsm.Info { return f.inner.Info() }

// Close implements [hsm.Token].
func (f *Faults) Close() error { return f.inner.Close() }

// do runs a call that returns an error only.
func (f *Faults) do(ctx context.Context, m Method, key hsm.UID, size int, call func() error) error {
	before, after := f.begin(ctx, m, key, size)
	if before != nil {
		return before
	}
	if err := call(); err != nil {
		return err
	}
	return after
}

// EncryptBlocks implements [hsm.BlockCipher].
func (f *Faults) EncryptBlocks(ctx context.Context, key hsm.UID, dst, src []byte) error {
	n := min(len(dst), len(src))
	err := f.do(ctx, MethodEncryptBlocks, key, len(src), func() error {
		return f.inner.EncryptBlocks(ctx, key, dst, src)
	})
	if err != nil {
		clear(dst[:n]) // unspecified on an error: a caller that relies on it is caught
	}
	return err
}

// Seal implements [hsm.GCM].
func (f *Faults) Seal(ctx context.Context, key hsm.UID, items []hsm.SealItem) error {
	err := f.do(ctx, MethodSeal, key, len(items), func() error { return f.inner.Seal(ctx, key, items) })
	if err != nil {
		for i := range items {
			items[i].Nonce, items[i].Sealed, items[i].Err = nil, nil, nil
		}
	}
	return err
}

// Open implements [hsm.GCM].
func (f *Faults) Open(ctx context.Context, key hsm.UID, items []hsm.OpenItem) error {
	err := f.do(ctx, MethodOpen, key, len(items), func() error { return f.inner.Open(ctx, key, items) })
	if err != nil {
		for i := range items {
			clear(items[i].Plaintext)
			items[i].Plaintext, items[i].Err = nil, nil
		}
	}
	return err
}

// SignBatch implements [hsm.Signer].
func (f *Faults) SignBatch(ctx context.Context, key hsm.UID, scheme hsm.Scheme, items []hsm.SignItem) error {
	err := f.do(ctx, MethodSignBatch, key, len(items), func() error { return f.inner.SignBatch(ctx, key, scheme, items) })
	if err != nil {
		for i := range items {
			items[i].Signature, items[i].Err = nil, nil
		}
	}
	return err
}

// MACBatch implements [hsm.MAC].
func (f *Faults) MACBatch(ctx context.Context, key hsm.UID, items []hsm.MACItem) error {
	err := f.do(ctx, MethodMACBatch, key, len(items), func() error { return f.inner.MACBatch(ctx, key, items) })
	if err != nil {
		for i := range items {
			items[i].Tag, items[i].Err = nil, nil
		}
	}
	return err
}

// bytes runs a call that returns bytes.
func (f *Faults) bytes(ctx context.Context, m Method, key hsm.UID, size int, call func() ([]byte, error)) (out []byte, err error) {
	err = f.do(ctx, m, key, size, func() (err error) {
		out, err = call()
		return err
	})
	if err != nil {
		clear(out)
		return nil, err
	}
	return out, nil
}

// Sign implements [hsm.Signer].
func (f *Faults) Sign(ctx context.Context, key hsm.UID, scheme hsm.Scheme, input []byte) ([]byte, error) {
	return f.bytes(ctx, MethodSign, key, len(input), func() ([]byte, error) { return f.inner.Sign(ctx, key, scheme, input) })
}

// MAC implements [hsm.MAC].
func (f *Faults) MAC(ctx context.Context, key hsm.UID, message []byte) ([]byte, error) {
	return f.bytes(ctx, MethodMAC, key, len(message), func() ([]byte, error) { return f.inner.MAC(ctx, key, message) })
}

// DecryptOAEP implements [hsm.Decrypter].
func (f *Faults) DecryptOAEP(ctx context.Context, key hsm.UID, hash crypto.Hash, ciphertext, label []byte) ([]byte, error) {
	return f.bytes(ctx, MethodDecryptOAEP, key, len(ciphertext), func() ([]byte, error) {
		return f.inner.DecryptOAEP(ctx, key, hash, ciphertext, label)
	})
}

// PublicKey implements [hsm.PublicKeys].
func (f *Faults) PublicKey(ctx context.Context, key hsm.UID) ([]byte, error) {
	return f.bytes(ctx, MethodPublicKey, key, 0, func() ([]byte, error) { return f.inner.PublicKey(ctx, key) })
}

// UnwrapKey implements [hsm.Importer].
func (f *Faults) UnwrapKey(ctx context.Context, uid hsm.UID, label string, spec hsm.KeySpec, w hsm.Wrapped) (hsm.Object, error) {
	var object hsm.Object
	err := f.do(ctx, MethodUnwrapKey, uid, 0, func() (err error) {
		object, err = f.inner.UnwrapKey(ctx, uid, label, spec, w)
		return err
	})
	if err != nil {
		return hsm.Object{}, err
	}
	return object, nil
}

// GenerateKey implements [hsm.Objects].
func (f *Faults) GenerateKey(ctx context.Context, uid hsm.UID, label string, spec hsm.KeySpec) (hsm.Object, error) {
	var object hsm.Object
	err := f.do(ctx, MethodGenerateKey, uid, 0, func() (err error) {
		object, err = f.inner.GenerateKey(ctx, uid, label, spec)
		return err
	})
	if err != nil {
		return hsm.Object{}, err
	}
	return object, nil
}

// ImportSessionKey implements [hsm.Objects].
func (f *Faults) ImportSessionKey(ctx context.Context, uid hsm.UID, spec hsm.KeySpec, value []byte) error {
	return f.do(ctx, MethodImportSessionKey, uid, 0, func() error {
		return f.inner.ImportSessionKey(ctx, uid, spec, value)
	})
}

// Keys implements [hsm.Objects].
func (f *Faults) Keys(ctx context.Context) ([]hsm.Object, error) {
	var objects []hsm.Object
	err := f.do(ctx, MethodKeys, hsm.UID{}, 0, func() (err error) {
		objects, err = f.inner.Keys(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return objects, nil
}

// Key implements [hsm.Objects].
func (f *Faults) Key(ctx context.Context, uid hsm.UID) (hsm.Object, error) {
	var object hsm.Object
	err := f.do(ctx, MethodKey, uid, 0, func() (err error) {
		object, err = f.inner.Key(ctx, uid)
		return err
	})
	if err != nil {
		return hsm.Object{}, err
	}
	return object, nil
}

// SetUsable implements [hsm.Objects].
func (f *Faults) SetUsable(ctx context.Context, uid hsm.UID, usable bool) error {
	return f.do(ctx, MethodSetUsable, uid, 0, func() error { return f.inner.SetUsable(ctx, uid, usable) })
}

// SetLabel implements [hsm.Objects].
func (f *Faults) SetLabel(ctx context.Context, uid hsm.UID, label string) error {
	return f.do(ctx, MethodSetLabel, uid, 0, func() error { return f.inner.SetLabel(ctx, uid, label) })
}

// DestroyKey implements [hsm.Objects].
func (f *Faults) DestroyKey(ctx context.Context, uid hsm.UID) error {
	return f.do(ctx, MethodDestroyKey, uid, 0, func() error { return f.inner.DestroyKey(ctx, uid) })
}

// Random implements [hsm.Random].
func (f *Faults) Random(ctx context.Context, p []byte) error {
	err := f.do(ctx, MethodRandom, hsm.UID{}, len(p), func() error { return f.inner.Random(ctx, p) })
	if err != nil {
		clear(p)
	}
	return err
}

// Check implements [hsm.Token].
func (f *Faults) Check(ctx context.Context) error {
	return f.do(ctx, MethodCheck, hsm.UID{}, 0, func() error { return f.inner.Check(ctx) })
}
