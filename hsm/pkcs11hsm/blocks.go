package pkcs11hsm

import (
	"context"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// EncryptBlocks implements [hsm.BlockCipher]. Each crossing takes at most
// Info().MaxBlockBytes; between two of them the context is looked at.
func (t *Token) EncryptBlocks(ctx context.Context, key hsm.UID, dst, src []byte) error {
	if err := hsm.CheckBlocks(dst, src); err != nil {
		return err
	}
	inPlace := &dst[0] == &src[0]
	out := dst[:len(src)]
	if inPlace {
		// What fails is run again, and must then find its input untouched.
		out = make([]byte, min(len(src), t.maxBlockBytes()))
		defer clear(out)
	}
	limit := t.maxBlockBytes()
	for len(src) > 0 {
		n := min(len(src), limit)
		err := t.encryptPiece(ctx, key, out[:n], src[:n])
		if tooLong(err) && n > minBlockBytes {
			limit = max(minBlockBytes, n/2/hsm.BlockSize*hsm.BlockSize)
			continue
		}
		if err != nil {
			return err
		}
		t.learnBlockBytes(ctx, limit)
		if inPlace {
			copy(src[:n], out)
		} else {
			out = out[n:]
		}
		src = src[n:]
	}
	return nil
}

// encryptPiece is one crossing.
func (t *Token) encryptPiece(ctx context.Context, key hsm.UID, dst, src []byte) error {
	return t.withKey(ctx, key, hsm.AES256Blocks, func(s *session, h objectHandle) error {
		t.calls.encryptBlocks.Add(1)
		c := t.module.lib.encryptBlocks(s.handle, h, dst, src)
		return crossed(c)
	})
}

// crossed turns how a crossing ended into an error. A session in which an operation
// was begun and not ended is of no more use.
func crossed(c crossing) error {
	if c.rv == ckrOK {
		return nil
	}
	if c.inOperation {
		return newCallError(c.function, pkcs11.CKR_OPERATION_ACTIVE)
	}
	return newCallError(c.function, c.rv)
}

// tooLong tells the return codes by which modules refuse a length.
func tooLong(err error) bool {
	return isCode(err, pkcs11.CKR_DATA_LEN_RANGE, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_ARGUMENTS_BAD)
}

func (t *Token) maxBlockBytes() int { return int(t.blockBytes.Load()) }

// learnBlockBytes remembers a limit that worked after a longer piece was refused.
func (t *Token) learnBlockBytes(ctx context.Context, limit int) {
	for {
		known := t.blockBytes.Load()
		if int64(limit) >= known {
			return
		}
		if t.blockBytes.CompareAndSwap(known, int64(limit)) {
			t.log.WarnContext(ctx, "the module refuses long blocks; crossings are shorter from now on",
				"max_block_bytes", limit, "before", known)
			return
		}
	}
}
