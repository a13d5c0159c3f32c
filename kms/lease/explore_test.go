//go:build !race

package lease

import (
	"flag"
	"fmt"
	"slices"
	"strings"
)

// depthFlag makes explorations that are not complete by default go further.
var depthFlag = flag.Int("lease.depth", 0,
	"explore the lease model by this many steps more, where it is not explored completely by default")

// maxStates is where an exploration gives up: it then takes about 5 GB.
const maxStates = 4_000_000

// exploration is what a search through all worlds of a scenario has found.
type exploration struct {
	states, transitions int
	depth               int  // steps from the start, within which all was explored
	complete            bool // every world that can be reached was
	err                 error
	trace               []step // to err, a shortest one
	steps               [stepNames]int
	fates               [fateGone + 1]int // of leases, when a call returns
	servedAfter         int               // worlds in which a replica serves with every change applied
}

// explore goes through all worlds that can be reached in depth steps, breadth first; all
// there are when depth is negative. It stops at the first violation.
func (s *scenario) explore(depth int) *exploration {
	type origin struct {
		parent int32
		step   step
	}
	type node struct {
		world world
		index int32
	}
	x := &exploration{}
	start, err := s.initial()
	if err != nil {
		x.err = err
		return x
	}
	k, err := s.key(&start)
	if err != nil {
		x.err = err
		return x
	}
	visited := map[key]struct{}{k: {}}
	origins := []origin{{parent: -1}}
	frontier, next := []node{{world: start}}, []node(nil)
	var out []successor
	for ; len(frontier) > 0 && x.depth != depth; x.depth++ {
		next = next[:0]
		for f := range frontier {
			if len(visited) > maxStates {
				x.states = len(visited)
				return x
			}
			from := &frontier[f]
			out = s.successors(&from.world, out[:0])
			for i := range out {
				to := &out[i]
				x.transitions++
				x.steps[to.step.name]++
				k, err := s.key(&to.world)
				if to.err == nil {
					to.err = err
				}
				if to.err != nil {
					x.err = to.err
					x.trace = []step{to.step}
					for at := from.index; at > 0; at = origins[at].parent {
						x.trace = append(x.trace, origins[at].step)
					}
					slices.Reverse(x.trace)
					x.states = len(visited)
					return x
				}
				if _, seen := visited[k]; seen {
					continue
				}
				visited[k] = struct{}{}
				s.note(x, to)
				next = append(next, node{to.world, int32(len(origins))})
				origins = append(origins, origin{from.index, to.step})
			}
		}
		frontier, next = next, frontier
	}
	x.states, x.complete = len(visited), len(frontier) == 0
	return x
}

// note counts what must happen somewhere, if the exploration is to mean anything.
func (s *scenario) note(x *exploration, to *successor) {
	for i := range s.replicas {
		if r := &to.world.replicas[i]; s.knowsAll(&to.world, r, r.applied) && r.holder.MayServe(r.clock(&to.world)) {
			x.servedAfter++
		}
	}
	if to.step.name == stepReturn {
		for _, t := range to.world.calls[to.step.actor-1].wait.others {
			x.fates[t.fate]++
		}
	}
}

func (x *exploration) String() string {
	text := fmt.Sprintf("%d states, %d transitions, %d steps deep", x.states, x.transitions, x.depth)
	if x.err == nil {
		return text
	}
	lines := make([]string, 0, len(x.trace))
	for i, st := range x.trace {
		lines = append(lines, fmt.Sprintf("%3d  %v", i+1, st))
	}
	return fmt.Sprintf("%s\n%v, after\n%s", text, x.err, strings.Join(lines, "\n"))
}
