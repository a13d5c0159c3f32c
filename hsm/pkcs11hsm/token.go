package pkcs11hsm

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// Token is one logged-in token of a PKCS#11 module. It implements [hsm.Token].
type Token struct {
	cfg Config
	log *slog.Logger

	module  *attachment
	login   login
	pool    *pool[*session]
	lane    *lane
	handles *handleTable
	gates   objectGates
	outage  outage

	// generatorAge is the generation of the pool when crypto11's context was made.
	// Guarded by module.objects.
	generatorAge uint64

	// What the probe found; not changed afterwards.
	info      hsm.Info
	dialect   dialect
	nonceless bool // C_EncryptInit for GCM takes no nonce

	blockBytes atomic.Int64 // most bytes of one EncryptBlocks crossing
	gcmCost    atomic.Int64 // mean nanoseconds of one GCM item
	costs      costs        // of signatures and tags
	calls      callCounters

	life  sync.RWMutex // held for reading by calls, for writing by the end of Close
	close sync.Once
}

var _ hsm.Token = (*Token)(nil)

// Info implements [hsm.Token].
func (t *Token) Info() hsm.Info {
	info := t.info.Clone()
	info.MaxBlockBytes = t.maxBlockBytes()
	return info
}

// Check implements [hsm.Token]: C_GetSessionInfo and C_GetTokenInfo. Like every
// call it repairs what it finds lost.
func (t *Token) Check(ctx context.Context) error {
	return t.do(ctx, func(s *session) error {
		if err := t.state(s); err != nil {
			return err
		}
		return t.present()
	})
}

// maxRandomBytes is the most bytes of one C_GenerateRandom.
const maxRandomBytes = 4096

// Random implements [hsm.Random].
func (t *Token) Random(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), maxRandomBytes)
		err := t.do(ctx, func(s *session) error {
			t.calls.random.Add(1)
			return check("C_GenerateRandom", t.module.lib.random(s.handle, p[:n]))
		})
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return ctx.Err()
}

// Close implements [hsm.Token]. The login ends unless another Token of this process
// has the same token open, and the module ends with its last token.
func (t *Token) Close() error {
	t.close.Do(func() {
		t.pool.shut()
		t.lane.close()
		t.life.Lock() // calls that wait or repair have returned
		defer t.life.Unlock()
		modules.detach(t.module, t.endLogin)
	})
	return nil
}

// endLogin logs out if last, and closes the anchor. The caller holds module.calls
// for writing.
func (t *Token) endLogin(last bool) {
	anchor := t.login.anchor
	if anchor == nil || anchor.dead || anchor.epoch != t.module.epoch {
		return
	}
	handle := pkcs11.SessionHandle(anchor.handle)
	if last {
		_ = t.module.ctx.Logout(handle)
	}
	_ = t.module.ctx.CloseSession(handle)
}

// MissingError says what a token lacks without which it is of no use. It matches
// hsm.ErrUnsupported.
type MissingError struct {
	// What is the name of a mechanism or attribute, such as "CKM_AES_ECB".
	What string
	// Why is what it is needed for, and what to do.
	Why string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%v: %s: %s", hsm.ErrUnsupported, e.What, e.Why)
}

// Unwrap makes the error match hsm.ErrUnsupported.
func (e *MissingError) Unwrap() error { return hsm.ErrUnsupported }
