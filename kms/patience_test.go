package kms

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPatienceOutlivesTheCallerAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var p patience
		for step := range 5 {
			caller, leave := context.WithCancel(context.WithValue(t.Context(), key{}, step))
			began := time.Now()
			ctx := p.detached(caller)
			leave()
			if ctx.Err() != nil || ctx.Value(key{}) != step {
				t.Fatalf("after its caller has left: %v, value %v, want %d", ctx.Err(), ctx.Value(key{}), step)
			}
			// A context made of it ends with it, and not with the caller's.
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-child.Done()
			took := time.Since(began)
			if cause := context.Cause(child); !errors.Is(cause, context.DeadlineExceeded) {
				t.Errorf("it ended for %v", cause)
			}
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) || took < changeTimeout || took > changeTimeout+patienceStep {
				t.Errorf("%v after %v, want the end between %v and %v later", ctx.Err(), took, changeTimeout, patienceStep)
			}
			if at, ok := ctx.Deadline(); !ok || !at.Equal(time.Now()) {
				t.Errorf("deadline %v, %v; it is %v", at, ok, time.Now())
			}
		}
	})
}

func TestPatienceIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p patience
		first := p.detached(t.Context()).Done()
		time.Sleep(patienceStep - 1) //nolint:forbidigo // of a synctest bubble
		if p.detached(t.Context()).Done() != first {
			t.Error("a context of its own within the step")
		}
		time.Sleep(time.Nanosecond) //nolint:forbidigo // of a synctest bubble
		if p.detached(t.Context()).Done() == first {
			t.Error("the same context after the step")
		}
	})
}
