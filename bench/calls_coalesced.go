package bench

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
)

// prepareCoalescedUnwrap unwraps by the client's own call for one data key, which merges
// concurrent callers into batches.
func prepareCoalescedUnwrap(items []item, pairs map[string]string) call {
	it := items[0]
	return call{
		make: func(ctx context.Context, c *connection) error {
			dataKey, err := c.unwrap(ctx, it.key, it.wrapped, pairs)
			if err != nil {
				return err
			}
			return checkSize(dataKey, dataKeySize)
		},
		verify: func(ctx context.Context, c *connection) error {
			dataKey, err := c.unwrap(ctx, it.key, it.wrapped, pairs)
			if err == nil && !bytes.Equal(dataKey, it.dataKey) {
				err = fmt.Errorf("%w: another key", ErrAnswer)
			}
			return err
		},
	}
}

// prepareCoalescedSign signs by the client's crypto.Signer, which merges concurrent callers
// into batches.
func prepareCoalescedSign(items []item, _ map[string]string) call {
	it := &items[0]
	by := func(check func(*item, []byte) error) func(context.Context, *connection) error {
		return func(ctx context.Context, c *connection) error {
			signature, err := c.sign(ctx, it.key, it.digest, crypto.SHA256)
			if err != nil {
				return err
			}
			return check(it, signature)
		}
	}
	return call{make: by(checkSignatureSize), verify: by(checkSignature)}
}
