package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
	"github.com/keyholt/keyholt/kms/wire"
)

const (
	// rewrapBatch is the most wrapped data keys of one call.
	rewrapBatch = 1024
	// reEncrypts is how many ciphertexts of data are on their way at once.
	reEncrypts = 16
	// The pauses before a call is made again that the service could not serve.
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

type uid = envelope.UID

// version is a key version and the UID that stands in its ciphertexts.
type version struct {
	name kms.VersionName
	uid  uid
}

// rewrapper puts ciphertexts under the primary version of their keys. Which version that
// is, and what the UIDs in ciphertexts stand for, it learns from the answers.
type rewrapper struct {
	a         *app
	api       kms.API
	flags     *rewrapFlags
	parent    kms.NamespaceName
	key       kms.KeyName // zero: any of parent
	context   map[string]string
	copyLimit int64 // bytes of a file that is copied to replace its header

	mu      sync.Mutex
	current map[kms.KeyName]version
	names   map[uid]kms.VersionName
}

// ciphertext is one to rewrap.
type ciphertext struct {
	blob   []byte
	parsed envelope.Blob
	aad    []byte

	out []byte // under the primary version; blob itself if it was before, or if it failed
	err error
}

// newCiphertext parses a blob. One that is malformed fails.
func newCiphertext(blob, aad []byte) *ciphertext {
	c := &ciphertext{blob: blob, aad: aad, out: blob}
	c.parsed, c.err = envelope.Parse(blob)
	return c
}

func (c *ciphertext) changed() bool { return c.err == nil && &c.out[0] != &c.blob[0] }

// run rewraps what is not malformed and not under the primary version. Its error ends
// everything; that of one ciphertext stands in it.
func (r *rewrapper) run(ctx context.Context, all []*ciphertext) error {
	var keys, data []*ciphertext
	for _, c := range all {
		switch {
		case c.err != nil || r.isCurrent(c.parsed.UID):
		case c.parsed.Kind == envelope.KindWrappedKey:
			keys = append(keys, c)
		default:
			data = append(data, c)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(reEncrypts)
	for len(keys) > 0 {
		some := keys[:min(len(keys), rewrapBatch)]
		keys = keys[len(some):]
		group.Go(func() error { return r.rewrapKeys(ctx, some) })
	}
	for _, c := range data {
		group.Go(func() error { return r.reEncrypt(ctx, c) })
	}
	return group.Wait()
}

func (r *rewrapper) rewrapKeys(ctx context.Context, pending []*ciphertext) error {
	return r.patiently(ctx, func() error {
		request := &kms.RewrapDataKeysRequest{
			Parent: r.parent, Key: r.key, Items: make([]kms.DataKeyItem, len(pending)),
			Binding: kms.Binding{Context: r.context},
		}
		for i, c := range pending {
			request.Items[i].Wrapped = c.blob
			if c.aad != nil {
				request.Items[i].Binding = &kms.Binding{Context: r.context, AAD: c.aad}
			}
		}
		results, err := r.api.RewrapDataKeys(ctx, kms.Principal{}, request)
		if err != nil {
			return err
		}
		var again []*ciphertext
		var last error
		for i, result := range results {
			if transient(result.Err) {
				again, last = append(again, pending[i]), result.Err
				continue
			}
			if err := r.settle(pending[i], result.Version, result.Target, result.Wrapped, result.Err); err != nil {
				return err
			}
		}
		pending = again
		return last
	})
}

func (r *rewrapper) reEncrypt(ctx context.Context, c *ciphertext) error {
	return r.patiently(ctx, func() error {
		result, err := r.api.ReEncrypt(ctx, kms.Principal{}, &kms.ReEncryptRequest{
			Parent: r.parent, SourceKey: r.key, Ciphertext: c.blob, Source: kms.Binding{Context: r.context, AAD: c.aad},
		})
		var refusal *kms.Error
		switch {
		case err == nil:
			return r.settle(c, result.Source, result.Version, result.Ciphertext, nil)
		case errors.As(err, &refusal) && !transient(err) && !ends(err):
			return r.settle(c, kms.VersionName{}, kms.VersionName{}, nil, err)
		default:
			return err
		}
	})
}

// ends tells the errors that concern no single ciphertext: the next one would get the same.
func ends(err error) bool {
	return errors.Is(err, kms.ErrUnauthenticated) || errors.Is(err, wire.ErrInternal)
}

// settle takes the result of one ciphertext. Its error is that of an answer that makes no
// sense: then nothing that came with it is kept.
func (r *rewrapper) settle(c *ciphertext, from, to kms.VersionName, out []byte, failure error) error {
	if failure != nil {
		c.err = failure
		r.learn(from, c.parsed.UID, false)
		return nil //nolint:nilerr // it stands in the ciphertext
	}
	made, err := envelope.Parse(out)
	if err != nil || made.Kind != c.parsed.Kind || made.PlaintextSize() != c.parsed.PlaintextSize() {
		return fmt.Errorf("%w: what came back for a ciphertext is none of its kind", wire.ErrMalformedResponse)
	}
	r.learn(from, c.parsed.UID, false)
	r.learn(to, made.UID, true)
	if from != to {
		c.out = out
	}
	return nil
}

// learn notes what a UID stands for, and whether that is the primary version.
func (r *rewrapper) learn(name kms.VersionName, u uid, primary bool) {
	if name.IsZero() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[u] = name
	if known := r.current[name.Key()]; primary && name.Number() > known.name.Number() {
		r.current[name.Key()] = version{name, u}
	}
}

// isCurrent reports whether a UID is that of a version that is primary as far as is known.
func (r *rewrapper) isCurrent(u uid) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, ok := r.names[u]
	return ok && r.current[name.Key()].uid == u
}

// patiently makes a call again, with growing pauses, as long as the service cannot serve
// it: for as long as --timeout says, counted from the first failure.
func (r *rewrapper) patiently(ctx context.Context, call func() error) error {
	var first time.Time
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := call()
		if err == nil || !transient(err) {
			return err
		}
		if first.IsZero() {
			first = time.Now()
		} else if time.Since(first) > r.a.timeout {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// transient reports whether the same call may be served a little later.
func transient(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return err != nil
	default:
		return errors.Is(err, kms.ErrVersionCreating)
	}
}
