package client

import (
	"fmt"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// Batching bounds how calls of [DataKeys] and [Signer] are merged into RPCs. Zero fields are
// the defaults. Each bound holds per namespace and operation; for Generate, of which only
// calls for one key and binding can be merged, per key and binding; for signatures per format.
type Batching struct {
	// MaxItems is the most calls of one RPC, at most [kms.MaxItems]. Default 1,024. Of
	// signatures it is never more than 64.
	MaxItems int
	// MaxInFlight is how many RPCs are under way at once; it is fewer while they take less
	// than a millisecond and calls are few. An RPC without an answer for a second gives
	// its place to another, up to eight times as many: one server that hangs does not
	// stop the callers of the others. Default 4.
	MaxInFlight int
	// MaxQueue is how many calls may wait for an RPC; further ones fail with
	// [ErrQueueFull]. Default 16,384. What waits is also never more than 64 MiB: that is
	// a thousand messages of the longest that EC_SIGN_ED25519 signs.
	MaxQueue int
}

// ErrQueueFull is the error of a call that found as much waiting as
// [Batching].MaxQueue allows. Nothing was sent. It matches [kms.ErrOverloaded] too.
var ErrQueueFull = fmt.Errorf("%w: the client's queue is full", kms.ErrOverloaded)

const (
	defaultMaxItems    = 1024
	defaultMaxInFlight = 4
	defaultMaxQueue    = 16384

	// maxQueueBytes bounds what waiting calls hold: their bindings may be long.
	maxQueueBytes = 64 << 20
	// maxBatchBytes is how much the calls of one RPC may fill, by the estimate of
	// [dataKeyCall.size]; the rest is for what the request says once.
	maxBatchBytes = wire.MaxMessageBytes - 64<<10

	// While RPCs are under way and others could be, calls wait at most so long for
	// others to join them. RPCs that take less are fast: waiting for one costs no more.
	maxHold = time.Millisecond
	// dataKeyShare is the fastShare of calls for data keys, of which one costs little more
	// than none.
	dataKeyShare = 256
	// An RPC that takes longer is overdue, and gives its place to another.
	overdueAfter = time.Second
	// maxOverdue is how many overdue RPCs may be under way, per one of MaxInFlight.
	maxOverdue = 7
)

// WithBatching changes how calls of [DataKeys] and [Signer] are merged into RPCs.
func WithBatching(b Batching) Option {
	return func(o *options) { o.batching = b }
}

func (b Batching) withDefaults() (Batching, error) {
	var wrong []kms.Violation
	check := func(field string, value *int, otherwise, most int) {
		switch {
		case *value == 0:
			*value = otherwise
		case *value < 0 || *value > most:
			wrong = append(wrong, kms.Violation{
				Field: field, Description: fmt.Sprintf("%d is not from 1 to %d", *value, most),
			})
		}
	}
	check("MaxItems", &b.MaxItems, defaultMaxItems, kms.MaxItems)
	check("MaxInFlight", &b.MaxInFlight, defaultMaxInFlight, 64)
	check("MaxQueue", &b.MaxQueue, defaultMaxQueue, 1<<20)
	if len(wrong) > 0 {
		return b, kms.Invalid(wrong...)
	}
	return b, nil
}
