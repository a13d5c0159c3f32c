package bench

import (
	"bytes"
	"context"
	"fmt"
)

// prepareCoalesced unwraps by the client's own call for one data key, which merges
// concurrent callers into batches.
func prepareCoalesced(items []item, pairs map[string]string) call {
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
