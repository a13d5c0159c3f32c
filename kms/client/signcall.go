package client

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"sync"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

const (
	// maxSignatures bounds the signatures of one RPC. One takes the HSM as long as many data
	// keys do, so there is little to gain by more, and the first would wait for the last.
	maxSignatures = 64
	// signShare is the fastShare of signatures.
	signShare = 4
)

// signService is what signing needs of the service.
type signService interface {
	Sign(context.Context, kms.Principal, *kms.SignRequest) (*kms.SignResult, error)
	BatchSign(context.Context, kms.Principal, *kms.BatchSignRequest) ([]kms.SignResult, error)
}

// signCall is one caller's call for a signature on its way through a [queue]. It holds a
// copy of what is to be signed: a caller that leaves early may change its memory at once.
type signCall struct {
	link[*signCall]

	version kms.VersionName
	digest  []byte // this, by the hash,
	hash    crypto.Hash
	message []byte // or this

	signature []byte
	err       error
}

func newSignCall(r *kms.SignRequest) *signCall {
	return &signCall{
		link: newLink[*signCall](), version: r.Version,
		digest: bytes.Clone(r.Digest), hash: r.DigestHash, message: bytes.Clone(r.Message),
	}
}

func (c *signCall) size() int {
	key := c.version.Key()
	return callOverhead + len(c.digest) + len(c.message) + len(key.ID()) + len(key.Namespace().ID())
}

func (c *signCall) fail(err error) { c.signature, c.err = nil, err }

func (*signCall) discard() {}

// settle gives the call its result, unless that breaks the contract.
func (c *signCall) settle(r *kms.SignResult) {
	switch {
	case r.Err != nil:
		c.err = r.Err
	case len(r.Signature) == 0 || r.Version != c.version:
		c.err = fmt.Errorf("%w: %d bytes of a signature by %q, for one by %q",
			wire.ErrMalformedResponse, len(r.Signature), r.Version, c.version)
	default:
		c.signature = r.Signature
	}
}

// signatures is what calls for signatures must have in common to be merged.
type signatures struct {
	namespace kms.NamespaceName
	format    kms.SignatureFormat
}

// signCalls returns the sender of calls for signatures. One call is a Sign; several are a
// BatchSign.
func signCalls(service signService, common signatures) sender[*signCall] {
	return func(ctx context.Context, calls []*signCall) error {
		if len(calls) == 1 {
			c := calls[0]
			result, err := service.Sign(ctx, kms.Principal{}, &kms.SignRequest{
				Version: c.version, Digest: c.digest, DigestHash: c.hash, Message: c.message, Format: common.format,
			})
			if err == nil {
				c.settle(result)
			}
			return err
		}
		version := majority(calls, func(a, b *signCall) bool { return a.version == b.version }).version
		items := make([]kms.SignItem, len(calls))
		for i, c := range calls {
			items[i] = kms.SignItem{Digest: c.digest, DigestHash: c.hash, Message: c.message}
			if c.version != version {
				items[i].Version = c.version
			}
		}
		results, err := service.BatchSign(ctx, kms.Principal{}, &kms.BatchSignRequest{
			Parent: common.namespace, Version: version, Items: items, Format: common.format,
		})
		if err != nil {
			return err
		}
		if len(results) != len(calls) {
			return fmt.Errorf("%w: %d results for %d items", wire.ErrMalformedResponse, len(results), len(calls))
		}
		for i, c := range calls {
			c.settle(&results[i])
		}
		return nil
	}
}

// signQueues are the queues of a client's calls for signatures.
type signQueues struct {
	service  signService
	limits   queueLimits
	lifetime context.Context

	mu sync.Mutex
	of map[signatures]*queue[*signCall]
}

func newSignQueues(lifetime context.Context, service signService, o *options) *signQueues {
	limits := queueLimits{Batching: o.batching, timeout: o.timeout, bytes: kms.MaxBatchMessages, fastShare: signShare}
	limits.MaxItems = min(limits.MaxItems, maxSignatures)
	return &signQueues{
		service: service, limits: limits, lifetime: lifetime, of: make(map[signatures]*queue[*signCall]),
	}
}

// sign returns the signature that is asked for, of a version.
func (q *signQueues) sign(ctx context.Context, r *kms.SignRequest) ([]byte, error) {
	if _, ok := ctx.Deadline(); !ok && q.limits.timeout > 0 {
		// The wait for an RPC counts, too: these callers cannot say how long they have.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.limits.timeout)
		defer cancel()
	}
	c := newSignCall(r)
	if err := q.queue(signatures{r.Version.Key().Namespace(), r.Format}).do(ctx, c); err != nil {
		return nil, err
	}
	return c.signature, c.err
}

func (q *signQueues) queue(common signatures) *queue[*signCall] {
	q.mu.Lock()
	defer q.mu.Unlock()
	found, ok := q.of[common]
	if !ok {
		found = &queue[*signCall]{send: signCalls(q.service, common), limits: q.limits, lifetime: q.lifetime}
		q.of[common] = found
	}
	return found
}
