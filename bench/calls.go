package bench

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// ErrAnswer is wrapped by the error of an answer that is not what was asked for.
var ErrAnswer = errors.New("wrong answer")

// call is a request that is ready to be made, any number of times and by several callers
// at once.
type call struct {
	// make makes it and checks that every item was answered with as many bytes as it must.
	make func(context.Context, *connection) error
	// verify makes it once and compares what comes back with what is known.
	verify func(context.Context, *connection) error
}

// maxCalls bounds how many requests of a scenario are prepared.
const maxCalls = setItems

// calls prepares the requests of a scenario from items: as many as use each item once,
// at least one.
func calls(s Scenario, items []item) ([]call, error) {
	if s.Batch < 1 || s.Batch > len(items) {
		return nil, fmt.Errorf("%s: a batch of %d cannot be made of %d items", s.Name(), s.Batch, len(items))
	}
	prepare, err := preparation(s)
	if err != nil {
		return nil, err
	}
	list := make([]call, 0, min(len(items)/s.Batch, maxCalls))
	for len(items) >= s.Batch && len(list) < maxCalls {
		list = append(list, prepare(items[:s.Batch], s.set().pairs()))
		items = items[s.Batch:]
	}
	return list, nil
}

func preparation(s Scenario) (func([]item, map[string]string) call, error) {
	switch {
	case s.Operation == Sign && s.Server.Echo:
		return nil, fmt.Errorf("%s: there is no echo of signatures", s.Name())
	case s.Via == Merged && s.Operation == Unwrap && s.Batch == 1:
		return prepareCoalescedUnwrap, nil
	case s.Via == Merged && s.Operation == Sign && s.Batch == 1:
		return prepareCoalescedSign, nil
	case s.Via == Merged:
		return nil, fmt.Errorf("%s: the client merges single unwraps and signatures", s.Name())
	case s.Via == Lean && s.Batch > 1:
		return nil, fmt.Errorf("%s: the lean client's requests are short", s.Name())
	case s.Operation == Sign && s.Batch == 1:
		return prepareSign, nil
	case s.Operation == Sign:
		return prepareBatchSign, nil
	case s.Operation == Unwrap:
		return prepareUnwrap, nil
	case s.Operation == Generate:
		return prepareGenerate, nil
	case s.Operation == Rewrap:
		return prepareRewrap, nil
	case s.Operation == Encrypt && s.Batch == 1:
		return prepareEncrypt, nil
	case s.Operation == Encrypt:
		return prepareBatchEncrypt, nil
	case s.Operation == Decrypt && s.Batch == 1:
		return prepareDecrypt, nil
	case s.Operation == Decrypt:
		return prepareBatchDecrypt, nil
	default:
		return nil, fmt.Errorf("%s: no such operation", s.Name())
	}
}

// rpc is a method of the stub.
type rpc[Q, A any] func(kmsv1.CryptoServiceClient, context.Context, Q, ...grpc.CallOption) (A, error)

// newCall is the call of a request: check looks at the shape of an answer, verify at its
// content, for which it may make further calls.
func newCall[Q, A any](
	method rpc[Q, A], request Q, check func(A) error, verify func(context.Context, *connection, A) error,
) call {
	ask := func(ctx context.Context, c *connection) (A, error) {
		answer, err := method(c.Crypto(), ctx, request)
		if err == nil {
			err = check(answer)
		}
		return answer, err
	}
	return call{
		make: func(ctx context.Context, c *connection) error {
			_, err := ask(ctx, c)
			return err
		},
		verify: func(ctx context.Context, c *connection) error {
			answer, err := ask(ctx, c)
			if err != nil {
				return err
			}
			return verify(ctx, c, answer)
		},
	}
}

// result is what the results of all batches have.
type result interface{ GetStatus() *kmsv1.Status }

// checkResults tells whether a batch was answered whole: an item each, none failed, and
// each field that it names as long as it must be.
func checkResults[R result](results []R, want int, sizes ...func(i int) (field []byte, size int)) error {
	if len(results) != want {
		return fmt.Errorf("%w: %d results for %d items", ErrAnswer, len(results), want)
	}
	for i, r := range results {
		if s := r.GetStatus(); s != nil {
			return fmt.Errorf("%w: item %d failed: %s: %s", ErrAnswer, i, s.GetReason(), s.GetMessage())
		}
		for _, of := range sizes {
			if field, size := of(i); len(field) != size {
				return fmt.Errorf("%w: item %d has %d bytes, want %d", ErrAnswer, i, len(field), size)
			}
		}
	}
	return nil
}
