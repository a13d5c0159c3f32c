package pkcs11hsm

import (
	"context"
	"fmt"

	"github.com/keyholt/keyholt/hsm"
)

// MAC implements [hsm.MAC].
func (t *Token) MAC(ctx context.Context, key hsm.UID, message []byte) ([]byte, error) {
	items := []item{{input: message}}
	if err := t.mac(ctx, key, items); err != nil {
		return nil, err
	}
	return items[0].output, items[0].err
}

// MACBatch implements [hsm.MAC].
func (t *Token) MACBatch(ctx context.Context, key hsm.UID, batch []hsm.MACItem) error {
	items := make([]item, len(batch))
	for i := range batch {
		items[i].input = batch[i].Message
	}
	err := t.mac(ctx, key, items)
	for i := range batch {
		batch[i].Tag, batch[i].Err = items[i].output, items[i].err
	}
	return err
}

// mac computes tags. The error, after which no item has one, concerns all of them.
func (t *Token) mac(ctx context.Context, key hsm.UID, items []item) error {
	if len(items) == 0 {
		return fmt.Errorf("%w: no items", hsm.ErrArgument)
	}
	for i := range items {
		items[i].err = hsm.CheckMessage(items[i].input)
	}
	return t.run(ctx, key, items, func(spec hsm.KeySpec) (operation, error) {
		if spec.Usage() != hsm.UsageMAC {
			return operation{}, fmt.Errorf("%w: %s is no HMAC key", hsm.ErrKeyNotPermitted, key)
		}
		return macOperation(spec, t), nil
	})
}

// macOperation is C_Sign with HMAC.
func macOperation(spec hsm.KeySpec, t *Token) operation {
	return operation{spec: spec, mechanism: mechanism{number: hmacMechanism(spec)}, room: spec.OutputSize(), count: &t.calls.mac}
}
