package coalesce_test

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// probe is a block cipher that remembers its last call and does nothing.
type probe struct {
	ctx      context.Context
	dst, src []byte
}

func (p *probe) EncryptBlocks(ctx context.Context, _ hsm.UID, dst, src []byte) error {
	p.ctx, p.dst, p.src = ctx, dst, src
	return nil
}

// cipherFunc is a block cipher that is a function.
type cipherFunc func(ctx context.Context, key hsm.UID, dst, src []byte) error

func (f cipherFunc) EncryptBlocks(ctx context.Context, key hsm.UID, dst, src []byte) error {
	return f(ctx, key, dst, src)
}

// hookAround tells of the begin (1) and end (-1) of calls that take some time.
func hookAround(d time.Duration, tell func(call hsmtest.Call, step int)) func(context.Context, hsmtest.Call) error {
	return func(_ context.Context, call hsmtest.Call) error {
		tell(call, 1)
		defer tell(call, -1)
		pass(d)
		return nil
	}
}

// unnoticed is a context that ends without telling anybody who waits on Done.
type unnoticed struct {
	context.Context
	err atomic.Pointer[error]
}

func (c *unnoticed) Err() error {
	if err := c.err.Load(); err != nil {
		return *err
	}
	return nil
}

// blow panics, as a broken token does.
func blow(value any) {
	panic(value) //nolint:forbidigo // what the tests are about
}
