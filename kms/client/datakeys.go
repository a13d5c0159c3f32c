package client

import (
	"context"
	"sync"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
)

// DataKeys makes, wraps and unwraps data keys under one key, and encrypts messages
// with them on this machine.
//
// Calls of concurrent callers are merged into batch RPCs: those for all keys of a
// namespace that the client's DataKeys have; of Generate, those for one key and binding.
// A call that finds no RPC under way is sent at once, so that a lone caller waits for
// nobody; while RPCs are under way, calls gather for the next. See [Batching].
//
//   - A caller whose context ends leaves at once; those it shared an RPC with notice
//     nothing. The RPC itself has the client's timeout ([WithTimeout]), and is cancelled
//     when nobody waits for it any more. Values of a caller's context, such as a trace,
//     do not travel with it.
//   - A call that fails, fails alone. What fails an RPC as a whole (the service cannot be
//     reached, is overloaded, cannot use its HSM) fails all calls that it carried.
//   - Errors are those of [Client.API], or [ErrQueueFull].
//
// Bindings and byte slices are copied: the caller may change them when a method returns.
// What a method returns is the caller's own; wipe data keys after use. A DataKeys may be
// used by many goroutines at once. Make one per key and keep it.
type DataKeys struct {
	key     kms.KeyName
	size    int
	calls   *dataKeyCalls
	wraps   *dataKeyQueue
	unwraps *dataKeyQueue
	// newQueue makes a queue for new keys of a size in bytes.
	newQueue func(size int) *dataKeyQueue

	unwrapped *keyCache // nil: off
	sealing   *keyCache // nil: off

	mu        sync.Mutex
	generates map[generation]*generateQueue
}

// generation is what calls for new data keys must have in common to be merged.
type generation struct {
	size    int    // in bytes
	binding string // as [appendBinding] encodes it
}

// generateQueue is the queue of a generation, and how many callers use it.
type generateQueue struct {
	*dataKeyQueue
	callers int
}

// DataKey is a new data key: the key, and the wrapped form that is to be stored.
type DataKey struct {
	Key     kms.Secret
	Wrapped []byte
}

// DataKeysOption changes how [Client.DataKeys] makes its result.
type DataKeysOption func(*dataKeysOptions)

type dataKeysOptions struct {
	size      int
	unwrapped *CacheLimits
	sealing   *CacheLimits
}

// WithDataKeySize sets the length of the keys that Generate makes, 16 to 64 bytes.
// Default 32.
func WithDataKeySize(n int) DataKeysOption {
	return func(o *dataKeysOptions) { o.size = n }
}

// DataKeys prepares the use of a key; it makes no call. Errors match
// [kms.ErrInvalidRequest].
func (c *Client) DataKeys(key kms.KeyName, opts ...DataKeysOption) (*DataKeys, error) {
	o := dataKeysOptions{size: envelope.FileKeySize}
	for _, opt := range opts {
		opt(&o)
	}
	if key.IsZero() {
		return nil, kms.Invalid(kms.Violation{Field: "key", Description: "is required"})
	}
	if err := checkDataKeySize("size", o.size); err != nil {
		return nil, err
	}
	unwrapped, err := c.caches.open("unwrap cache", o.unwrapped)
	if err != nil {
		return nil, err
	}
	sealing, err := c.caches.open("seal reuse", o.sealing)
	if err != nil {
		return nil, err
	}
	queues := c.queues.of(key.Namespace())
	return &DataKeys{
		key: key, size: o.size, calls: &c.queues.calls,
		wraps: queues.wraps, unwraps: queues.unwraps,
		newQueue:  func(size int) *dataKeyQueue { return c.queues.newQueue(generateCalls(c.queues.service, size)) },
		unwrapped: unwrapped, sealing: sealing,
		generates: make(map[generation]*generateQueue),
	}, nil
}

// Key is the name of the key.
func (k *DataKeys) Key() kms.KeyName { return k.key }

// Generate makes a new data key, of random bytes of the HSM and the service's machine,
// and wraps it under the key's primary version.
func (k *DataKeys) Generate(ctx context.Context, b kms.Binding) (DataKey, error) {
	return k.generate(ctx, k.size, b)
}

func (k *DataKeys) generate(ctx context.Context, size int, b kms.Binding) (DataKey, error) {
	c, err := k.calls.get(k.key, nil, b)
	if err != nil {
		return DataKey{}, err
	}
	g := generation{size: size, binding: string(c.binding())}
	q := k.enter(g)
	defer k.exit(g, q)
	result, err := carry(ctx, q.dataKeyQueue, c)
	return DataKey{Key: result.DataKey, Wrapped: result.Wrapped}, err
}

// enter finds the queue of a generation, or makes it; exit drops it after its last caller.
func (k *DataKeys) enter(g generation) *generateQueue {
	k.mu.Lock()
	defer k.mu.Unlock()
	q := k.generates[g]
	if q == nil {
		q = &generateQueue{dataKeyQueue: k.newQueue(g.size)}
		k.generates[g] = q
	}
	q.callers++
	return q
}

func (k *DataKeys) exit(g generation, q *generateQueue) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if q.callers--; q.callers == 0 {
		delete(k.generates, g)
	}
}

// Wrap wraps a data key of the caller's, 16 to 64 bytes, under the key's primary version.
// Keys from Generate are better: their randomness has two sources.
func (k *DataKeys) Wrap(ctx context.Context, dataKey kms.Secret, b kms.Binding) ([]byte, error) {
	if err := checkDataKeySize("data_key", len(dataKey)); err != nil {
		return nil, err
	}
	c, err := k.calls.get(k.key, dataKey, b)
	if err != nil {
		return nil, err
	}
	result, err := carry(ctx, k.wraps, c)
	return result.Wrapped, err
}

// Unwrap returns the data key inside a wrapped one, which the key must have wrapped, in
// any of its versions, with this binding.
func (k *DataKeys) Unwrap(ctx context.Context, wrapped []byte, b kms.Binding) (kms.Secret, error) {
	if err := checkWrapped(wrapped); err != nil {
		return nil, err
	}
	c, err := k.calls.get(k.key, wrapped, b)
	if err != nil {
		return nil, err
	}
	if k.unwrapped == nil {
		result, err := carry(ctx, k.unwraps, c)
		return result.DataKey, err
	}
	id := k.unwrapped.id(c)
	if cached, ok := k.unwrapped.get(id); ok {
		c.free()
		return cached.Key, nil
	}
	asked := time.Now()
	result, err := carry(ctx, k.unwraps, c)
	if err == nil {
		k.unwrapped.put(id, DataKey{Key: result.DataKey}, asked)
	}
	return result.DataKey, err
}

// dataKeyQueue is a queue of calls for data keys.
type dataKeyQueue = queue[*dataKeyCall]

// carry has a queue carry a call, and returns its outcome.
func carry(ctx context.Context, q *dataKeyQueue, c *dataKeyCall) (kms.DataKeyResult, error) {
	if err := q.do(ctx, c); err != nil {
		return kms.DataKeyResult{}, err
	}
	outcome := c.outcome
	c.free()
	return outcome, outcome.Err
}

// queues are those of a client, by namespace: a few hundred bytes for each that it has
// had to do with.
type queues struct {
	service  keyService
	newQueue func(sender[*dataKeyCall]) *dataKeyQueue
	calls    dataKeyCalls

	mu          sync.Mutex
	byNamespace map[kms.NamespaceName]namespaceQueues
}

type namespaceQueues struct{ wraps, unwraps *dataKeyQueue }

func newQueues(lifetime context.Context, service keyService, o *options) *queues {
	q := &queues{service: service, byNamespace: make(map[kms.NamespaceName]namespaceQueues)}
	limits := queueLimits{Batching: o.batching, timeout: o.timeout, bytes: maxBatchBytes, fastShare: dataKeyShare}
	q.newQueue = func(send sender[*dataKeyCall]) *dataKeyQueue {
		return &dataKeyQueue{send: send, limits: limits, lifetime: lifetime}
	}
	return q
}

func (q *queues) of(namespace kms.NamespaceName) namespaceQueues {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, ok := q.byNamespace[namespace]
	if !ok {
		n = namespaceQueues{
			wraps:   q.newQueue(wrapCalls(q.service, namespace)),
			unwraps: q.newQueue(unwrapCalls(q.service, namespace)),
		}
		q.byNamespace[namespace] = n
	}
	return n
}
