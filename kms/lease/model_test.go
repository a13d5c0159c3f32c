//go:build !race

package lease

import (
	"errors"
	"slices"
	"time"
)

// The model: replicas, a store, and callers that change something and wait, as one state
// machine. Each process is a sequence of steps, and any step of any process, or a tick of
// the clock, may come next. A process that is stopped, killed, or cut off from the store is
// thus one whose steps do not come while the clock ticks. What replicas and callers decide is
// decided by the very Holder and Wait that the product runs.
//
// Change k, of 1 to scenario.changes in the order of their commits, revokes version k, and
// operations always try a version that the next change after their snapshot revokes, or one
// that their snapshot knows nothing of in a store that has lost changes. Dispatch is left
// out: it can only refuse, and what it lets through is checked again.
//
// The files of the model are not built for the race detector: it makes them ten times slower,
// and has nothing to find in one goroutine.

const (
	maxReplicas = 3
	maxChanges  = 2

	// tick is the margin of the leases of the model.
	tick        = shortestMargin
	marginTicks = 1
)

// scenario is what may happen in one exploration.
type scenario struct {
	replicas int
	changes  int
	ticks    int  // of a lease, its margin included
	serving  bool // replicas have joined before the first step
	insider  bool // the caller is replica 0, otherwise a process without a lease
	split    bool // a transaction reads the revision some time before it commits
	late     bool // a transaction that was given up may still commit
	failOver bool // once, and the former primary goes on answering readings
	// lossy makes the store fall back, once, to an earlier state of itself, and go on from
	// there: a fail-over to a standby that lagged, or a roll-back. Nobody meets the former
	// state any more.
	lossy bool
	// doubt makes replicas give up their leases, and examine the store, at any moment. The
	// driver does so only when what it has read does not follow from what it knows.
	doubt      bool
	unwaited   int  // changes, from the first, that nobody waits for
	slowClocks bool // each replica's clock may fall a tick behind the caller's
	leave      bool
	sweep      bool // rows that were seen to expire are removed
	// prompt makes callers read once a tick and the store answer within a tick, so that
	// the longest wait has a bound.
	prompt bool
	// silent makes replicas begin no transaction once the first change is committed.
	silent bool
	// bound is after how many ticks a wait must be over; 0 for no bound.
	bound int

	mutation mutation
}

// mutation is one way to get the protocol wrong.
type mutation struct {
	noMargin           bool // neither side has one
	sentAfterCommit    bool // the lease counts from the confirmation
	renewWhileBehind   bool
	serveBeforeCatchUp bool
	headOfTheJoin      bool // the revision is read by the joining transaction itself
	acknowledgeApplied bool // without waiting for operations in flight
	catchUpApplied     bool // the same, when joining only
	staleConfirmation  bool // the clock is read before the confirmation arrives
	leaseBeforeState   bool // the final check asks MayServe first
	readingBefore      bool // one clock reading per observation, before it
	readingAfter       bool // one clock reading per observation, after it
	unconfirmedExpiry  bool
	anyHead            bool // readings need not show the change
	counterIgnored     bool
	removeBeforeStop   bool // a leaving replica removes its row first
	lateJoinReplaces   bool // the store takes a join that a newer one has overtaken
	uncheckedRenewal   bool // the store takes renewals from who has applied what it has lost
	uncheckedJoin      bool // and joins
	countOn            bool // a renewal adds one to the row's counter
	keepLease          bool // GiveUp does nothing
	renewalRevives     bool // a renewal that is confirmed after GiveUp counts
	giveUpForgets      bool // the revisions that were seen
	seenIgnored        bool // Seen does nothing
	seenForgotten      bool // what Seen finds is not for good
	backwardsForgotten bool // nor what Committed finds
	unconfirmedSeen    bool // the revision for Seen may come from a former primary
	noException        bool // no mutation, but the promise without its exception
}

type world struct {
	now      int // ticks
	head     uint8
	made     uint8 // changes, with those that are lost
	failed   bool  // over, or back
	received bool  // former is what the store may fall back to
	fork     uint8 // the revision that it fell back to
	lostAt   int   // when it did
	rows     [maxReplicas]row
	former   former
	replicas [maxReplicas]replica
	calls    [maxChanges]call
}

// row is a Row of the replica with its index; join is 0 when there is none.
type row struct {
	join, counter uint16
	applied       uint8
}

// former is the primary before the fail-over, as it was then; in a lossy scenario it is the
// state that the store may fall back to.
type former struct {
	head uint8
	rows [maxReplicas]row
}

type replica struct {
	holder      *Holder // never changed in place: worlds share it
	lag         int8    // ticks that the clock is behind
	applied     uint8
	op          operation
	transaction transaction
	overdue     transaction // given up, and not committed yet
	left        bool

	stray  bool // it has applied what the store has lost
	orphan bool // the store has lost a join or renewal of its lease, and had no other since

	// What must not be, by what came before.
	gaveUp   bool  // it has given up its lease, and not joined since
	seen     uint8 // the highest revision that was confirmed to its holder, or acknowledged
	wentBack bool  // a lower one was confirmed
}

// operation is on its way through the final check.
type operation struct {
	stage    opStage
	snapshot uint8
}

type opStage uint8

const (
	opNone    opStage = iota
	opEntered         // counted under its snapshot, which was current; evaluated
	opPassed          // the lease was valid: the result is on its way out
	opLeased          // leaseBeforeState: the lease was valid, the snapshot is not looked at yet
)

type transaction struct {
	open      bool
	renewal   Renewal
	read      bool // head is read
	head      uint8
	committed bool
	missing   bool // the row was not there
	refused   bool // the store is not what the replica has applied
	look      bool // an examination: no renewal
}

type call struct {
	wait     *Wait // nil until the change is committed; never changed in place
	revision uint8 // of the change
	lost     bool  // with the change; nothing is promised
	reading  reading
	returned bool
	age      int8 // ticks from the commit to the return
	readOnce bool // since the last tick
}

type reading struct {
	stage     readStage
	asked     time.Duration
	head      uint8
	rows      [maxReplicas]row
	confirmed bool
}

type readStage uint8

const (
	readNone readStage = iota
	readAsked
	readDone
)

var instances = [maxReplicas]string{"a", "b", "c"}

func (s *scenario) duration() time.Duration { return time.Duration(s.ticks) * tick }

// expiryTicks is how long a caller waits for a counter to move.
func (s *scenario) expiryTicks() int { return s.ticks + marginTicks }

func (s *scenario) initial() (world, error) {
	var w world
	for i := range s.replicas {
		h := NewHolder(instances[i], s.duration())
		if s.mutation.noMargin {
			h.margin = 0
		}
		w.replicas[i].holder = h
		for s.serving && !h.MayServe(0) {
			renewal, err := h.Begin(0, 0)
			if err != nil {
				return w, err
			}
			w.rows[i] = row{join: uint16(renewal.ID.Join), counter: uint16(renewal.Counter)}
			if err := h.Committed(0, renewal, 0); err != nil {
				return w, err
			}
		}
	}
	return w, nil
}

// clone copies a Holder for a world of its own.
func (h *Holder) clone() *Holder {
	c := &Holder{duration: h.duration, margin: h.margin, standing: h.standing}
	c.until.Store(h.until.Load())
	c.refusal.Store(h.refusal.Load())
	return c
}

func (w *Wait) clone() *Wait {
	c := *w
	c.others = slices.Clone(w.others)
	return &c
}

// clock is what the process reads.
func (r *replica) clock(w *world) time.Duration { return time.Duration(w.now-int(r.lag)) * tick }

// callersClock is that of the process that makes the changes.
func (s *scenario) callersClock(w *world) time.Duration {
	if s.insider {
		return w.replicas[0].clock(w)
	}
	return time.Duration(w.now) * tick
}

// acknowledged is what the replica may say: applied, and no operation left under an older
// snapshot.
func (r *replica) acknowledged() uint8 {
	if r.op.stage == opEntered || r.op.stage == opPassed {
		return min(r.applied, r.op.snapshot)
	}
	return r.applied
}

// errViolation is a state that the promise excludes.
var errViolation = errors.New("the promise is broken")

// successor is a world one step on.
type successor struct {
	step  step
	world world
	err   error // errViolation
}
