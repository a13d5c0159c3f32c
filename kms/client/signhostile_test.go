package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// errHostile is what a hostile service fails whole requests with.
var errHostile = status.Error(codes.Unavailable, "hostile")

// hostile is a scribe that now and then hangs, fails, or gives too few results, too many,
// or those of a batch in another order.
type hostile struct{ scribe }

func (s *hostile) misbehave(ctx context.Context) error {
	switch rand.IntN(12) {
	case 0: // hangs
		<-ctx.Done()
		return context.Cause(ctx)
	case 1:
		return errHostile
	case 2:
		return (&scribe{takes: 3 * time.Second}).wait(ctx)
	default:
		return (&scribe{takes: time.Duration(rand.IntN(20)) * time.Millisecond}).wait(ctx)
	}
}

func (s *hostile) Sign(ctx context.Context, p kms.Principal, r *kms.SignRequest) (*kms.SignResult, error) {
	if err := s.misbehave(ctx); err != nil {
		return nil, err
	}
	return s.scribe.Sign(ctx, p, r)
}

func (s *hostile) BatchSign(ctx context.Context, p kms.Principal, r *kms.BatchSignRequest) ([]kms.SignResult, error) {
	if err := s.misbehave(ctx); err != nil {
		return nil, err
	}
	for i := range r.Items {
		if v := r.Items[i].Version; !v.IsZero() && v.Key().Namespace() != r.Parent || r.Version.Key().Namespace() != r.Parent {
			return nil, fmt.Errorf("%q and %q in %q", v, r.Version, r.Parent)
		}
	}
	results, err := s.scribe.BatchSign(ctx, p, r)
	switch {
	case err != nil:
	case rand.IntN(10) == 0:
		results = results[1:]
	case rand.IntN(10) == 0:
		results = append(results, results[0])
	case rand.IntN(10) == 0:
		slices.Reverse(results)
	}
	return results, err
}

// Whatever the service does and whenever callers leave or the client is closed: nobody gets the
// signature of another version, no call outlasts its context or the client's timeout, and in
// the end the queue is empty and nothing is under way.
func TestSignaturesOfAHostileService(t *testing.T) {
	elsewhere, err := kms.ParseKeyName("namespaces/bank/keys/orders")
	if err != nil {
		t.Fatal(err)
	}
	known := []error{
		errRefused, errHostile, wire.ErrMalformedResponse, context.Canceled, context.DeadlineExceeded, ErrQueueFull,
	}
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			s := &hostile{}
			limits, err := Batching{MaxQueue: 150}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			lifetime, closeClient := context.WithCancel(t.Context())
			defer closeClient()
			const timeout = 10 * time.Second
			q := newSignQueues(lifetime, s, &options{batching: limits, timeout: timeout})
			time.AfterFunc(time.Duration(rand.IntN(30))*time.Second, closeClient)
			var running sync.WaitGroup
			for i := range 300 {
				running.Go(func() {
					key := keyName(t, "orders")
					if i%3 == 0 {
						key = elsewhere
					}
					version := key.Version(uint32(1 + i)) // so that another's signature is noticed
					for round := range 5 {
						ctx, cancel, longest := t.Context(), context.CancelFunc(func() {}), timeout
						switch rand.IntN(3) {
						case 0:
							longest = time.Duration(rand.IntN(100)) * time.Millisecond
							ctx, cancel = context.WithTimeout(ctx, longest)
						case 1:
							ctx, cancel = context.WithCancel(ctx)
							longest = time.Duration(rand.IntN(5000)) * time.Millisecond
							time.AfterFunc(longest, cancel)
						}
						r := &kms.SignRequest{Version: version, Message: fmt.Appendf(nil, "%d", round)}
						if rand.IntN(10) == 0 {
							r.Message = []byte("bad")
						}
						want := string(s.result(version, nil, r.Message).Signature)
						start := time.Now()
						signature, err := q.sign(ctx, r)
						if took := time.Since(start); took > longest {
							t.Errorf("a call took %v, longer than %v", took, longest)
						}
						cancel()
						switch {
						case err == nil && string(signature) != want:
							t.Errorf("got %q, want %q", signature, want)
						case err != nil && signature != nil:
							t.Errorf("a signature and %v", err)
						case err != nil && !slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) }):
							t.Errorf("an unknown error: %v", err)
						}
						clear(r.Message) // which is the caller's again
					}
				})
			}
			running.Wait()
			synctest.Wait()
			closeClient()
			synctest.Wait()
			for _, found := range q.of {
				found.mu.Lock()
				if found.waiting != 0 || found.bytes != 0 || found.flying != 0 || found.overdue != 0 || found.flyingLoad != 0 ||
					found.head != nil || found.tail != nil {
					t.Errorf("in the end %d wait (%d bytes), %d fly (%d calls), %d overdue",
						found.waiting, found.bytes, found.flying, found.flyingLoad, found.overdue)
				}
				found.mu.Unlock()
			}
		})
	}
}
