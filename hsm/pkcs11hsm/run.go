package pkcs11hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyholt/keyholt/hsm"
)

const (
	// A crossing takes as many items as fit in runCrossing by the mean cost of those
	// before under keys of that specification, but no more than maxRunItems, and, unless
	// it is a single item, no more than maxRunBytes of input.
	runCrossing = 1500 * time.Microsecond
	maxRunItems = 64
	maxRunBytes = 64 << 10
	// worthASession is the time of a batch for which a further session is used.
	worthASession = 200 * time.Microsecond
)

// mechanism is what an operation is begun with.
type mechanism struct {
	number     uint
	parameters uint32 // parametersNone, ...
	hash       uint   // CKM_SHA...; of PSS and OAEP
	mgf        uint   // CKG_MGF1_...
	salt       uint   // bytes; of PSS
	label      []byte // of OAEP
}

// operation is what is done with each item of a batch under a key of one specification.
type operation struct {
	spec      hsm.KeySpec
	mechanism mechanism
	decrypt   bool
	room      int // bytes of output: that many of a signature or tag, at most of a plaintext
	count     *atomic.Uint64
}

// item is one signature, tag or decryption.
type item struct {
	input  []byte
	output []byte // nil unless it was made
	err    error
}

// run runs the items that have no error yet. prepare looks at the key's specification and
// says what is to be done; it may fail items by themselves. A large batch is spread over
// the sessions of the pool, to which others come in turn. What run returns concerns all
// items, and then none has an output.
func (t *Token) run(ctx context.Context, key hsm.UID, items []item, prepare func(hsm.KeySpec) (operation, error)) error {
	op, err := t.prepare(ctx, key, prepare)
	if err != nil {
		clear(items)
		return err
	}
	if t.lane.suits(len(items), t.costs.least(op.spec)) {
		err = t.inLane(ctx, key, op, items)
	} else {
		err = t.inSessions(ctx, key, op, items)
	}
	if err != nil {
		for i := range items {
			clear(items[i].output)
			items[i] = item{}
		}
	}
	return err
}

// inLane runs items on one thread after what others have given it, or, where that does not
// work for them, as inSessions does.
func (t *Token) inLane(ctx context.Context, key hsm.UID, op operation, items []item) error {
	made, err := t.lane.do(func() error { return t.serve(ctx, t.pool.kept, key, op, items) })
	if !made {
		return t.inSessions(ctx, key, op, items)
	}
	return err
}

// inSessions runs items on the caller's goroutine, a large batch in several sessions.
func (t *Token) inSessions(ctx context.Context, key hsm.UID, op operation, items []item) error {
	if len(items) == 1 {
		return t.serve(ctx, t.pool.slots, key, op, items)
	}
	return t.all(ctx, key, op, items)
}

// serve runs items, unless prepare has refused them, one crossing after another.
func (t *Token) serve(ctx context.Context, from seats, key hsm.UID, op operation, items []item) error {
	if len(items) > 1 {
		return t.work(ctx, from, key, op, newItemQueue(items))
	}
	if items[0].err == nil { // most requests: no queue for it
		return t.crossings(ctx, from, key, op, items, []int{0})
	}
	return nil
}

// all runs items, in several sessions where that is worth it.
func (t *Token) all(ctx context.Context, key hsm.UID, op operation, items []item) (err error) {
	queue := newItemQueue(items)
	if workers := t.workers(op, len(queue.left)); workers > 1 {
		if err = t.spread(ctx, key, op, queue, workers); errors.Is(err, hsm.ErrUnavailable) {
			// While one worker brings a lost token back, the others fail at once. What
			// they left is done now, or fails for good.
			queue = newItemQueue(items)
			err = t.work(ctx, t.pool.slots, key, op, queue)
		}
	} else {
		err = t.work(ctx, t.pool.slots, key, op, queue)
	}
	return err
}

// prepare finds the specification of the key without a session if it is in the table.
func (t *Token) prepare(ctx context.Context, key hsm.UID, prepare func(hsm.KeySpec) (operation, error)) (operation, error) {
	if err := ctx.Err(); err != nil {
		return operation{}, err
	}
	if t.pool.isShut() {
		return operation{}, hsm.ErrClosed
	}
	if k, ok := t.handles.getOurs(key); ok {
		return prepare(k.spec)
	}
	var op operation
	err := t.withHandle(ctx, key, func(_ *session, k keyHandle) (err error) {
		op, err = prepare(k.spec)
		return err
	})
	return op, err
}

// spread runs items in several sessions. No worker's failure cuts another short, which may
// be repairing what was lost; but nobody begins anything more.
func (t *Token) spread(ctx context.Context, key hsm.UID, op operation, queue *itemQueue, workers int) error {
	queue.most = (len(queue.left) + workers - 1) / workers
	var group errgroup.Group
	for range workers {
		group.Go(func() error {
			err := t.work(ctx, t.pool.slots, key, op, queue)
			if err != nil {
				queue.stop()
			}
			return err
		})
	}
	return group.Wait()
}

// itemQueue hands out the items of a batch.
type itemQueue struct {
	items []item
	most  int // of one crossing

	mu   sync.Mutex
	left []int
}

// newItemQueue holds the items that have neither an output nor an error.
func newItemQueue(items []item) *itemQueue {
	q := &itemQueue{items: items}
	for i := range items {
		if items[i].err == nil && items[i].output == nil {
			q.left = append(q.left, i)
		}
	}
	q.most = len(q.left)
	return q
}

// stop leaves nothing to be handed out.
func (q *itemQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left = nil
}

// next takes the items of one crossing; none are left if it is empty.
func (q *itemQueue) next(limit int) (batch []int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := 0
	for len(batch) < min(limit, q.most) && len(q.left) > 0 {
		size += len(q.items[q.left[0]].input)
		if len(batch) > 0 && size > maxRunBytes {
			break
		}
		batch, q.left = append(batch, q.left[0]), q.left[1:]
	}
	return batch
}

// workers is how many sessions a batch of n items is worth.
func (t *Token) workers(op operation, n int) int {
	worth := time.Duration(n) * t.costs.mean(op.spec) / worthASession
	return min(int(worth), n, t.cfg.Sessions)
}

// batchLimit is the most items of one crossing by what they cost.
func (t *Token) batchLimit(op operation) int {
	return min(max(int(runCrossing/max(1, t.costs.mean(op.spec))), 1), maxRunItems)
}

// work runs items until none are left.
func (t *Token) work(ctx context.Context, from seats, key hsm.UID, op operation, queue *itemQueue) error {
	for {
		batch := queue.next(t.batchLimit(op))
		if len(batch) == 0 {
			return nil
		}
		if err := t.crossings(ctx, from, key, op, queue.items, batch); err != nil {
			return err
		}
	}
}

// crossings runs a batch, in one crossing unless some item ends it early.
func (t *Token) crossings(ctx context.Context, from seats, key hsm.UID, op operation, items []item, batch []int) error {
	for len(batch) > 0 {
		err := t.withKeyFrom(ctx, from, key, op.spec, func(s *session, h objectHandle) error {
			done, err := t.cross(s, h, op, items, batch)
			op.count.Add(operations(done, len(batch), err))
			batch = batch[done:]
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cross runs a batch in one crossing. It returns how many items of the batch are finished,
// well or not; an error concerns all of the others.
func (t *Token) cross(s *session, h objectHandle, op operation, items []item, batch []int) (int, error) {
	output, m := s.layOutFlat(op, items, batch)
	begin := time.Now()
	c := t.module.lib.run(s.handle, h, op.decrypt, &m, s.input, output, s.flat)
	if c.done > 0 {
		t.costs.learn(op.spec, time.Since(begin)/time.Duration(c.done))
	}
	defer s.wipe()
	for n, i := range batch[:c.done] {
		rv, out := outcome(&s.flat[n], output)
		if err := t.finish(s, op, &items[i], rv, out); err != nil {
			clear(out)
			return n, err
		}
	}
	return c.done, crossed(c)
}

// layOutFlat puts a batch into the session's buffers and makes room for its output, which
// the items keep. There is one byte more than needed, so that no address is nil.
func (s *session) layOutFlat(op operation, items []item, batch []int) (output []byte, m flatMechanism) {
	size := len(op.mechanism.label) + 1
	for _, i := range batch {
		size += len(items[i].input)
	}
	s.flat, s.input = s.flat[:0], slices.Grow(s.input[:0], size)
	s.input = append(s.input, op.mechanism.label...)
	for n, i := range batch {
		at := len(s.input)
		s.input = append(s.input, items[i].input...)
		s.flat = append(s.flat, newFlatItem(at, len(items[i].input), n*op.room, op.room))
	}
	return make([]byte, len(batch)*op.room), op.mechanism.flat(0)
}

// finish looks at one operation's return code. The error is nil unless it concerns more
// than this item.
func (t *Token) finish(s *session, op operation, it *item, rv returnCode, output []byte) error {
	function := "C_Sign"
	if op.decrypt {
		function = "C_Decrypt"
	}
	if rv == ckrOK && !op.decrypt && len(output) != op.room {
		clear(output)
		it.err = fmt.Errorf("%w: %s made %d bytes, want %d", hsm.ErrUnavailable, function, len(output), op.room)
		return nil
	}
	if rv == ckrOK {
		it.output = output
		return nil
	}
	e := newCallError(function, rv)
	// Of a decryption it is asked whatever the code: else the time of an answer would tell
	// which of them it was.
	if e.class == classAsk || op.decrypt && !e.class.isLoss() && e.class != classForbidden {
		e = t.diagnose(s, e)
	}
	switch e.class {
	case classSession, classLogin, classHandle, classGone, classForbidden:
		return e
	case classFailed, classRequest:
	default:
		e = e.as(classFailed, hsm.ErrUnavailable) // no code for C_Sign
	}
	if it.err = e; op.decrypt {
		// Whatever the code, it may tell what is wrong with the padding.
		it.err = hsm.ErrAuthentication
	}
	return nil
}
