package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// leastWait is how much of --timeout must be left for another call to be of use: the
// service answers 100 ms before the deadline of a call.
const leastWait = 500 * time.Millisecond

// settle makes a call that has to become known to all replicas, and repeats it while the
// service says that the change is committed and still spreading, until --timeout has
// passed. The call must be one that may be repeated.
func settle[R any](ctx context.Context, a *app, call func(context.Context) (R, error)) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var committed error
	for {
		r, err := call(ctx)
		switch {
		case err == nil:
			return r, nil
		case errors.Is(wire.FromStatus(err), kms.ErrStillSpreading):
			if committed == nil {
				a.sayf("kmsctl: the change is committed%s; waiting until each replica is known to have it, or to serve nothing",
					revisionText(err))
			}
			committed = err
		case committed != nil && errors.Is(wire.FromStatus(err), context.DeadlineExceeded):
			return r, committed // that it is committed is the news, not that time has run out
		default:
			return r, err
		}
		if time.Until(deadline) < leastWait {
			return r, committed
		}
	}
}

// revisionText says which revision has a change that is still spreading, if it is known.
func revisionText(err error) string {
	var e *kms.Error
	if errors.As(wire.FromStatus(err), &e) && e.Metadata["revision"] != "" {
		return " at revision " + e.Metadata["revision"]
	}
	return ""
}

// spreadText says how a change came to be known.
func spreadText(s *kmsv1.Spread) string {
	known, expired := len(s.GetAcknowledged()), len(s.GetExpired())
	if known+expired == 0 {
		return ""
	}
	var text string
	switch {
	case expired > 0:
		text = fmt.Sprintf("%d acknowledged, %d held no lease (%s)", known, expired, strings.Join(s.GetExpired(), ", "))
	case known == 1:
		text = "the only replica knows it"
	default:
		text = fmt.Sprintf("all %d replicas know it", known)
	}
	return text + "; took " + tookText(s.GetTook().AsDuration())
}

func tookText(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
