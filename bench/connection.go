package bench

import (
	"context"
	"crypto"
	"errors"
	"sync"

	"github.com/keyholt/keyholt/bench/leanrpc"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// connection is a client of the server under test, as an application would have one; or a
// lean one, which is there for its stub only.
type connection struct {
	*client.Client
	lean     *leanrpc.Conn
	dataKeys sync.Map // resource name of a KMS key to *client.DataKeys: made once, as their documentation asks
	signers  sync.Map // of a KMS key to *client.Signer
}

// dialAll makes n connections.
func dialAll(ctx context.Context, p client.Profile, n int, v Via) ([]*connection, error) {
	dialOne := dial
	if v == Lean {
		dialOne = dialLean
	}
	list := make([]*connection, 0, n)
	for range n {
		c, err := dialOne(ctx, p)
		if err != nil {
			return nil, errors.Join(err, closeAll(list))
		}
		list = append(list, c)
	}
	return list, nil
}

func dial(ctx context.Context, p client.Profile) (*connection, error) {
	c, err := client.Dial(ctx, p)
	return &connection{Client: c}, err
}

func dialLean(ctx context.Context, p client.Profile) (*connection, error) {
	config, err := p.TLSConfig()
	if err != nil {
		return nil, err
	}
	_, address := p.Endpoint()
	c, err := leanrpc.Dial(ctx, address, config)
	return &connection{lean: c}, err
}

// Crypto is the stub on the connection.
func (c *connection) Crypto() kmsv1.CryptoServiceClient {
	if c.lean != nil {
		return kmsv1.NewCryptoServiceClient(c.lean)
	}
	return c.Client.Crypto()
}

// Close ends the connection.
func (c *connection) Close() error {
	if c.lean != nil {
		return c.lean.Close()
	}
	return c.Client.Close()
}

func closeAll(list []*connection) (err error) {
	for _, c := range list {
		err = errors.Join(err, c.Close())
	}
	return err
}

// unwrap unwraps one data key by the client's coalescing call.
func (c *connection) unwrap(ctx context.Context, key string, wrapped []byte, pairs map[string]string) (kms.Secret, error) {
	handle, ok := c.dataKeys.Load(key)
	if !ok {
		name, err := kms.ParseKeyName(key)
		if err != nil {
			return nil, err
		}
		made, err := c.DataKeys(name)
		if err != nil {
			return nil, err
		}
		handle, _ = c.dataKeys.LoadOrStore(key, made)
	}
	return handle.(*client.DataKeys).Unwrap(ctx, wrapped, kms.Binding{Context: pairs}) //nolint:errcheck,forcetypeassert // the map holds nothing else
}

// sign signs a digest by the client's coalescing call.
func (c *connection) sign(ctx context.Context, key string, digest []byte, hash crypto.Hash) ([]byte, error) {
	signer, ok := c.signers.Load(key)
	if !ok {
		name, err := kms.ParseKeyName(key)
		if err != nil {
			return nil, err
		}
		made, err := c.Signer(ctx, name)
		if err != nil {
			return nil, err
		}
		signer, _ = c.signers.LoadOrStore(key, made)
	}
	return signer.(*client.Signer).Sign(nil, digest, hash) //nolint:errcheck,forcetypeassert // the map holds nothing else
}
