package client

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// scribe is a service whose signatures are the version's name and what was signed.
type scribe struct {
	takes time.Duration
	spoil func(*kms.SignResult) // nil: nothing

	mu      sync.Mutex
	single  int   // Sign
	batches []int // items of each BatchSign
	own     int   // items that named a version
}

var errRefused = errors.New("refused")

func (s *scribe) result(version kms.VersionName, digest, message []byte) kms.SignResult {
	r := kms.SignResult{Version: version, Signature: fmt.Appendf(nil, "%s %s%s", version, digest, message)}
	if string(message) == "bad" {
		r = kms.SignResult{Version: version, Err: errRefused}
	}
	if s.spoil != nil {
		s.spoil(&r)
	}
	return r
}

func (s *scribe) wait(ctx context.Context) error {
	select {
	case <-time.After(s.takes):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *scribe) Sign(ctx context.Context, _ kms.Principal, r *kms.SignRequest) (*kms.SignResult, error) {
	s.mu.Lock()
	s.single++
	s.mu.Unlock()
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	result := s.result(r.Version, r.Digest, r.Message)
	return &result, result.Err
}

func (s *scribe) BatchSign(ctx context.Context, _ kms.Principal, r *kms.BatchSignRequest) ([]kms.SignResult, error) {
	if size := proto.Size(wire.EncodeBatchSignRequest(r)); len(r.Items) > maxSignatures || size > wire.MaxMessageBytes {
		return nil, fmt.Errorf("%d items, %d bytes", len(r.Items), size)
	}
	s.mu.Lock()
	s.batches = append(s.batches, len(r.Items))
	for i := range r.Items {
		if !r.Items[i].Version.IsZero() {
			s.own++
		}
	}
	s.mu.Unlock()
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	results := make([]kms.SignResult, 0, len(r.Items))
	for _, it := range r.Items {
		version := it.Version
		if version.IsZero() {
			version = r.Version
		}
		results = append(results, s.result(version, it.Digest, it.Message))
	}
	return results, nil
}

func (s *scribe) queues(t *testing.T) *signQueues {
	t.Helper()
	limits, err := Batching{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return newSignQueues(t.Context(), s, &options{batching: limits, timeout: DefaultTimeout})
}

// Callers at the same time share RPCs, and each gets the signature of what it gave, by the
// version that it named. A call that is refused is refused alone.
func TestSignaturesShareRPCs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scribe{takes: 5 * time.Millisecond}
		q := s.queues(t)
		const callers, rounds = 32, 10
		var running sync.WaitGroup
		for i := range callers {
			running.Go(func() {
				version := keyName(t, "orders").Version(1)
				if i%8 == 0 {
					version = keyName(t, "other").Version(uint32(i + 1))
				}
				for round := range rounds {
					message := fmt.Appendf(nil, "%d:%d", i, round)
					if i == 5 {
						message = []byte("bad")
					}
					r := &kms.SignRequest{Version: version, Message: message, Format: kms.SignatureRaw}
					want := string(s.result(version, nil, message).Signature)
					signature, err := q.sign(t.Context(), r)
					if (i == 5) != errors.Is(err, errRefused) || i != 5 && err != nil || string(signature) != want {
						t.Errorf("caller %d: %q, %v", i, signature, err)
					}
				}
			})
		}
		start := time.Now()
		running.Wait()
		if took := time.Since(start); took > rounds*s.takes*3/2 {
			t.Errorf("%d rounds took %v", rounds, took)
		}
		if n := s.single + len(s.batches); n > 2*defaultMaxInFlight*rounds || slices.Max(s.batches) < callers/defaultMaxInFlight {
			t.Errorf("%d RPCs of %v calls", n, s.batches)
		}
		if s.own == 0 || s.own > callers*rounds/4 {
			t.Errorf("%d items named a version of their own", s.own)
		}
	})
}

func TestALoneSignatureIsASign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scribe{takes: time.Millisecond}
		q := s.queues(t)
		start := time.Now()
		for range 10 {
			if _, err := q.sign(t.Context(), &kms.SignRequest{Version: keyName(t, "orders").Version(1), Digest: []byte("d")}); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); s.single != 10 || len(s.batches) != 0 || took != 10*s.takes {
			t.Errorf("%d Sign, %v BatchSign in %v", s.single, s.batches, took)
		}
	})
}

// Batches stay within what the service takes, in items and in bytes: the service of this
// test refuses others. What cannot be merged is not.
func TestSignaturesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scribe{takes: 10 * time.Millisecond}
		q := s.queues(t)
		names := []kms.VersionName{keyName(t, "orders").Version(1), keyName(t, "other").Version(2)}
		var running sync.WaitGroup
		for i := range 1000 {
			running.Go(func() {
				r := &kms.SignRequest{Version: names[i%2], Message: make([]byte, kms.MaxMessage), Format: kms.SignatureFormat(1 + i%3/2)}
				if _, err := q.sign(t.Context(), r); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		if len(q.of) != 2 {
			t.Errorf("%d queues for two formats", len(q.of))
		}
		if most := slices.Max(s.batches); most > kms.MaxBatchMessages/kms.MaxMessage {
			t.Errorf("%d items of %d bytes", most, kms.MaxMessage)
		}
	})
}

// What a caller gave was copied: it may change it as soon as it has left.
func TestSignaturesOfCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &kms.SignRequest{
			Version: keyName(t, "orders").Version(1), Digest: []byte("digest"), DigestHash: crypto.SHA256, Message: []byte("message"),
		}
		c := newSignCall(r)
		clear(r.Digest)
		clear(r.Message)
		if !bytes.Equal(c.digest, []byte("digest")) || !bytes.Equal(c.message, []byte("message")) || c.hash != crypto.SHA256 {
			t.Errorf("%+v", c)
		}
	})
}

// Who brings no deadline waits for no longer than the client's timeout, the wait for an RPC
// included; who leaves, leaves at once.
func TestSignaturesEndWithTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scribe{takes: time.Hour}
		q := s.queues(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var running sync.WaitGroup
		for i := range 2000 {
			running.Go(func() {
				its, want := t.Context(), DefaultTimeout
				if i%2 == 1 {
					its, want = ctx, time.Millisecond
				}
				start := time.Now()
				_, err := q.sign(its, &kms.SignRequest{Version: keyName(t, "orders").Version(1), Digest: []byte("d")})
				if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != want {
					t.Errorf("caller %d: %v after %v", i, err, took)
				}
			})
		}
		running.Wait()
	})
}

func TestSignaturesThatBreakTheContract(t *testing.T) {
	for name, spoil := range map[string]func(*kms.SignResult){
		"no signature":    func(r *kms.SignResult) { r.Signature = nil },
		"another version": func(r *kms.SignResult) { r.Version = keyName(t, "orders").Version(9) },
		"no version":      func(r *kms.SignResult) { r.Version = kms.VersionName{} },
	} {
		s := &scribe{spoil: spoil}
		for n := 1; n <= 2; n++ {
			calls := make([]*signCall, n)
			for i := range calls {
				calls[i] = newSignCall(&kms.SignRequest{Version: keyName(t, "orders").Version(1), Digest: []byte("d")})
			}
			if err := signCalls(s, signatures{})(t.Context(), calls); err != nil {
				t.Fatal(err)
			}
			for _, c := range calls {
				if !errors.Is(c.err, wire.ErrMalformedResponse) || c.signature != nil {
					t.Errorf("%s, %d calls: %q, %v", name, n, c.signature, c.err)
				}
			}
		}
	}
	down := errors.New("down")
	calls := []*signCall{newSignCall(&kms.SignRequest{}), newSignCall(&kms.SignRequest{})}
	if err := signCalls(broken{err: down}, signatures{})(t.Context(), calls); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
	if err := signCalls(broken{results: 3}, signatures{})(t.Context(), calls); !errors.Is(err, wire.ErrMalformedResponse) {
		t.Errorf("three results for two calls: %v", err)
	}
}

// broken is a service with a fixed number of results.
type broken struct {
	results int
	err     error
}

func (b broken) Sign(context.Context, kms.Principal, *kms.SignRequest) (*kms.SignResult, error) {
	return nil, b.err
}

func (b broken) BatchSign(context.Context, kms.Principal, *kms.BatchSignRequest) ([]kms.SignResult, error) {
	return make([]kms.SignResult, b.results), b.err
}

// The estimate of a call's size bounds what it becomes on the wire.
func TestSizeOfSignaturesBoundsTheWire(t *testing.T) {
	version := keyName(t, "orders-of-a-rather-long-name").Version(1 << 30)
	c := newSignCall(&kms.SignRequest{Version: version, Digest: make([]byte, 64), DigestHash: crypto.SHA512})
	message := func(items int) int {
		r := &kms.BatchSignRequest{Parent: version.Key().Namespace()}
		for range items {
			r.Items = append(r.Items, kms.SignItem{Version: version, Digest: c.digest, DigestHash: c.hash})
		}
		return proto.Size(wire.EncodeBatchSignRequest(r))
	}
	if one := message(11) - message(10); one > c.size() {
		t.Errorf("%d bytes on the wire, estimated %d", one, c.size())
	}
}

// What waits is bounded in bytes too: of the longest messages far fewer may wait than calls.
func TestWaitingMessagesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := (&scribe{takes: 10 * time.Second}).queues(t)
		var running sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		const callers = 1200
		for range callers {
			running.Go(func() {
				r := &kms.SignRequest{Version: keyName(t, "orders").Version(1), Message: make([]byte, kms.MaxMessage)}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				_, err := q.sign(ctx, r)
				if err != nil && !errors.Is(err, ErrQueueFull) {
					t.Error(err)
				}
				if err != nil {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			})
		}
		running.Wait()
		const waited = maxQueueBytes / kms.MaxMessage
		if refused == 0 || refused > callers-waited*9/10 {
			t.Errorf("%d of %d calls were refused", refused, callers)
		}
	})
}
