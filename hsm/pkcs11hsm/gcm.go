package pkcs11hsm

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

const (
	// nonceBytes is the size of the nonces that we choose (SP 800-38D, 8.2.2: 96
	// random bits).
	nonceBytes = 12
	// appendedNonceBytes is the size of a nonce that a module appends to what it
	// sealed.
	appendedNonceBytes = 16

	// A crossing takes as many items as fit in gcmCrossing by the mean cost of
	// those before, but no more than maxGCMItems, and, unless it is a single
	// item, no more than maxGCMBytes of input.
	gcmCrossing = 1500 * time.Microsecond
	maxGCMItems = 64
	maxGCMBytes = 64 << 10
	// firstGCMCost is assumed of an item before any was measured.
	firstGCMCost = 30 * time.Microsecond

	// maxGCMItemBytes bounds one item, so that offsets fit in 32 bits.
	maxGCMItemBytes = 1 << 28
)

// Seal implements [hsm.GCM]. An item that the module cannot take (too long for it)
// fails with hsm.ErrUnsupported, and one that fails in a token that is well with
// hsm.ErrUnavailable.
func (t *Token) Seal(ctx context.Context, key hsm.UID, items []hsm.SealItem) error {
	job := &sealJob{items: items}
	for i := range items {
		item := &items[i]
		item.Nonce, item.Sealed = nil, nil
		item.Err = checkItem(len(item.Plaintext), len(item.AAD))
	}
	err := t.runGCM(ctx, key, job)
	if err != nil {
		for i := range items {
			items[i].Nonce, items[i].Sealed, items[i].Err = nil, nil, nil
		}
	}
	return err
}

// Open implements [hsm.GCM].
func (t *Token) Open(ctx context.Context, key hsm.UID, items []hsm.OpenItem) error {
	job := &openJob{items: items}
	for i := range items {
		item := &items[i]
		item.Plaintext = nil
		item.Err = checkItem(len(item.Sealed), len(item.AAD))
		if n := len(item.Nonce); n != nonceBytes && n != appendedNonceBytes {
			item.Err = fmt.Errorf("%w: a nonce of %d bytes", hsm.ErrArgument, n)
		} else if len(item.Sealed) < hsm.TagSize {
			item.Err = fmt.Errorf("%w: %d bytes hold no tag", hsm.ErrArgument, len(item.Sealed))
		}
	}
	err := t.runGCM(ctx, key, job)
	if err != nil {
		for i := range items {
			clear(items[i].Plaintext)
			items[i].Plaintext, items[i].Err = nil, nil
		}
	}
	return err
}

func checkItem(data, aad int) error {
	if aad == 0 {
		return fmt.Errorf("%w: empty additional authenticated data", hsm.ErrArgument)
	}
	if data > maxGCMItemBytes || aad > maxGCMItemBytes {
		return fmt.Errorf("%w: an item of %d bytes with %d bytes of additional data", hsm.ErrArgument, data, aad)
	}
	return nil
}

// gcmJob is a batch of Seal or Open. Items are named by index.
type gcmJob interface {
	count() int
	opens() bool
	failed(i int) bool
	fail(i int, err error)
	// parts returns the nonce (nil if it is to be made), AAD and input of an item,
	// and the room that its output needs.
	parts(i int) (nonce, aad, input []byte, room int)
	// finish hands over what the module wrote: the nonce as it is after the call,
	// and the output, which the item keeps.
	finish(i int, nonce, output []byte)
}

// runGCM runs the items that have not failed, in order, some in each crossing.
func (t *Token) runGCM(ctx context.Context, key hsm.UID, job gcmJob) error {
	if job.count() == 0 {
		return fmt.Errorf("%w: no items", hsm.ErrArgument)
	}
	var batch []int
	for next := 0; ; {
		batch, next = t.nextBatch(job, batch[:0], next)
		for len(batch) > 0 {
			err := t.withKey(ctx, key, hsm.AES256GCM, func(s *session, h objectHandle) error {
				done, err := t.crossGCM(s, h, job, batch)
				t.calls.countGCM(job.opens(), done, len(batch), err)
				batch = batch[done:]
				return err
			})
			if err != nil {
				return err
			}
		}
		if next == job.count() {
			return nil
		}
	}
}

// nextBatch collects the items of one crossing from index next on.
func (t *Token) nextBatch(job gcmJob, batch []int, next int) ([]int, int) {
	limit := int(gcmCrossing / max(1, time.Duration(t.gcmCost.Load())))
	limit = min(max(limit, 1), maxGCMItems)
	size := 0
	for ; next < job.count() && len(batch) < limit; next++ {
		if job.failed(next) {
			continue
		}
		_, aad, input, _ := job.parts(next)
		size += len(aad) + len(input)
		if len(batch) > 0 && size > maxGCMBytes {
			break
		}
		batch = append(batch, next)
	}
	return batch, next
}

// crossGCM runs a batch in one crossing. It returns how many items of the batch are
// finished, well or not; an error concerns all of the others.
func (t *Token) crossGCM(s *session, h objectHandle, job gcmJob, batch []int) (int, error) {
	output := s.layOut(job, batch)
	begin := time.Now()
	c := t.module.lib.gcm(s.handle, h, job.opens(), t.nonceless && !job.opens(), s.input, output, s.items)
	if c.done > 0 {
		t.learnGCMCost(time.Since(begin) / time.Duration(c.done))
	}
	defer s.wipe()
	for n, i := range batch[:c.done] {
		if err := t.finishItem(s, job, i, &s.items[n], output); err != nil {
			return n, err
		}
	}
	if c.rv == ckrOK {
		return len(batch), nil
	}
	err := crossed(c)
	if class, _ := classOf(err); class == classRequest {
		job.fail(batch[c.done], err)
		return c.done + 1, nil
	}
	return c.done, err
}

// layOut puts a batch into the session's buffers, nonces first within each item, and
// makes room for its output, which the items will keep.
func (s *session) layOut(job gcmJob, batch []int) (output []byte) {
	size, room := 0, 0
	for _, i := range batch {
		_, aad, input, _ := job.parts(i)
		size += appendedNonceBytes + len(aad) + len(input)
	}
	// Growing at once leaves no copy of a plaintext behind in a smaller array.
	s.items, s.input = s.items[:0], slices.Grow(s.input[:0], size)
	for _, i := range batch {
		nonce, aad, input, need := job.parts(i)
		if nonce == nil {
			var fresh [nonceBytes]byte
			rand.Read(fresh[:])
			nonce = fresh[:]
		}
		at := len(s.input)
		s.input = append(s.input, nonce...)
		s.input = append(s.input, aad...)
		s.input = append(s.input, input...)
		s.items = append(s.items, newGCMItem(at, len(nonce), len(aad), len(input), room, need))
		room += need
	}
	return make([]byte, room)
}

// wipe clears the input buffer, and gives up one that a large item made large.
func (s *session) wipe() {
	clear(s.input)
	if cap(s.input) > 4*maxGCMBytes {
		s.input = nil
	}
}

// finishItem looks at one operation's return code. The error is nil unless it
// concerns more than this item.
func (t *Token) finishItem(s *session, job gcmJob, i int, item *gcmItem, output []byte) error {
	nonce, out := gcmSpans(item, s.input, output)
	if returnCode(item.rv) == ckrOK {
		job.finish(i, nonce, out)
		return nil
	}
	function := "C_Encrypt"
	if job.opens() {
		function = "C_Decrypt"
	}
	e := newCallError(function, returnCode(item.rv))
	if e.class == classAsk {
		e = t.diagnose(s, e)
	}
	switch {
	case e.class == classFailed && job.opens():
		// SoftHSM says CKR_GENERAL_ERROR of a tag that does not match.
		job.fail(i, hsm.ErrAuthentication)
	case e.class == classAuthentication, e.class == classFailed, e.class == classRequest:
		job.fail(i, e)
	default:
		return e
	}
	return nil
}

// learnGCMCost keeps a moving mean of the time that one item takes.
func (t *Token) learnGCMCost(cost time.Duration) {
	t.gcmCost.Store((3*t.gcmCost.Load() + int64(cost)) / 4)
}

// sealJob is the gcmJob of Seal.
type sealJob struct{ items []hsm.SealItem }

func (j *sealJob) count() int            { return len(j.items) }
func (j *sealJob) opens() bool           { return false }
func (j *sealJob) failed(i int) bool     { return j.items[i].Err != nil }
func (j *sealJob) fail(i int, err error) { j.items[i].Err = err }

func (j *sealJob) parts(i int) (nonce, aad, input []byte, room int) {
	item := &j.items[i]
	return nil, item.AAD, item.Plaintext, len(item.Plaintext) + hsm.TagSize + appendedNonceBytes
}

func (j *sealJob) finish(i int, nonce, output []byte) {
	item := &j.items[i]
	sealed := len(item.Plaintext) + hsm.TagSize
	switch len(output) {
	case sealed:
		item.Nonce = bytes.Clone(nonce)
	case sealed + appendedNonceBytes:
		item.Nonce = output[sealed:]
	default:
		item.Err = fmt.Errorf("%w: C_Encrypt made %d bytes of %d", hsm.ErrUnavailable, len(output), len(item.Plaintext))
		return
	}
	item.Sealed = output[:sealed:sealed]
}

// openJob is the gcmJob of Open.
type openJob struct{ items []hsm.OpenItem }

func (j *openJob) count() int            { return len(j.items) }
func (j *openJob) opens() bool           { return true }
func (j *openJob) failed(i int) bool     { return j.items[i].Err != nil }
func (j *openJob) fail(i int, err error) { j.items[i].Err = err }

func (j *openJob) parts(i int) (nonce, aad, input []byte, room int) {
	item := &j.items[i]
	// Some modules want room for the tag, too.
	return item.Nonce, item.AAD, item.Sealed, len(item.Sealed)
}

func (j *openJob) finish(i int, _, output []byte) {
	item := &j.items[i]
	if want := len(item.Sealed) - hsm.TagSize; len(output) != want {
		clear(output)
		item.Err = fmt.Errorf("%w: C_Decrypt made %d bytes of %d", hsm.ErrUnavailable, len(output), len(item.Sealed))
		return
	}
	item.Plaintext = output
}
