//go:build !race

package lease

import (
	"fmt"
	"strings"
)

// step names a transition, for traces.
type step struct {
	name  stepName
	actor uint8
}

type stepName uint8

const (
	stepTick stepName = iota
	stepSlowTick
	stepFailOver
	stepReceive
	stepLoss
	stepChange
	stepApply
	stepCatchUp
	stepBeginJoin
	stepBeginRenewal
	stepReadHead
	stepCommit
	stepCommitMissing
	stepCommitRefused
	stepConfirmed
	stepGiveUp
	stepGiveUpLease
	stepExamine
	stepSeen
	stepLeaveLate
	stepCommitLate
	stepEnter
	stepRefused
	stepPassed
	stepHandOver
	stepStop
	stepRemoveRow
	stepAsk
	stepRead
	stepReadFormer
	stepObserve
	stepReturn
	stepSweep
	stepNames
)

var stepTexts = [stepNames]string{
	stepTick:          "a tick",
	stepSlowTick:      "a tick, but not on the clock of replica %d",
	stepFailOver:      "fail-over",
	stepReceive:       "the standby receives the last that it will have",
	stepLoss:          "the store falls back to what the standby has",
	stepChange:        "change %d is committed",
	stepApply:         "replica %d applies a change",
	stepCatchUp:       "replica %d has caught up",
	stepBeginJoin:     "replica %d begins to join",
	stepBeginRenewal:  "replica %d begins to renew",
	stepReadHead:      "replica %d's transaction reads the revision",
	stepCommit:        "replica %d's transaction commits",
	stepCommitMissing: "replica %d's transaction finds no row of its own",
	stepCommitRefused: "replica %d's transaction is refused: the store has lost what the replica has applied",
	stepConfirmed:     "replica %d has its answer",
	stepGiveUp:        "replica %d gets no answer",
	stepGiveUpLease:   "replica %d gives up its lease",
	stepExamine:       "replica %d begins to examine the store",
	stepSeen:          "replica %d has seen the revision",
	stepLeaveLate:     "replica %d gets no answer, but the transaction is still under way",
	stepCommitLate:    "replica %d's transaction commits late",
	stepEnter:         "replica %d counts an operation and evaluates it",
	stepRefused:       "replica %d refuses the operation",
	stepPassed:        "replica %d's operation passes its final check",
	stepHandOver:      "replica %d hands the result over",
	stepStop:          "replica %d stops serving for good",
	stepRemoveRow:     "replica %d removes its row",
	stepAsk:           "the caller of change %d asks for the rows",
	stepRead:          "the rows for the caller of change %d are read",
	stepReadFormer:    "the rows for the caller of change %d are read at the former primary",
	stepObserve:       "the caller of change %d has the rows",
	stepReturn:        "the call of change %d returns",
	stepSweep:         "the row of replica %d, which was seen to expire, is removed",
}

func (st step) String() string {
	text := stepTexts[st.name]
	if strings.Contains(text, "%d") {
		return fmt.Sprintf(text, st.actor)
	}
	return text
}

// successors appends every world that may come next.
func (s *scenario) successors(w *world, out []successor) []successor {
	e := &expansion{scenario: s, from: w, out: out}
	e.store()
	for i := range s.replicas {
		e.lease(i)
		e.operation(i)
		e.leaving(i)
	}
	for k := range s.changes {
		e.call(k)
	}
	return e.out
}

// expansion collects the successors of a world.
type expansion struct {
	*scenario
	from *world
	out  []successor
}

// next appends a copy of the world, for the caller to change.
func (e *expansion) next(name stepName, actor int) *world {
	e.out = append(e.out, successor{step: step{name, uint8(actor)}, world: *e.from})
	return &e.out[len(e.out)-1].world
}

// relabel changes what the last step is called.
func (e *expansion) relabel(name stepName) { e.out[len(e.out)-1].step.name = name }

func (e *expansion) violation(format string, args ...any) {
	e.out[len(e.out)-1].err = fmt.Errorf("%w: "+format, append([]any{errViolation}, args...)...)
}
