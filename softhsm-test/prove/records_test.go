package prove

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"time"
)

// record is what the proofs read of an audit record (package audit describes all of it).
type record struct {
	ID        string        `json:"id"`
	Time      time.Time     `json:"time"`
	Principal string        `json:"principal"`
	Method    string        `json:"method"`
	Action    string        `json:"action"`
	Resource  string        `json:"resource"`
	Reason    string        `json:"reason"`
	Revision  uint64        `json:"revision"`
	Checked   time.Duration `json:"checked_ns"`
	Outcome   string        `json:"outcome"`
	Spread    *struct {
		Revision uint64 `json:"revision"`
	} `json:"spread"`
	Items []struct {
		Count   int    `json:"count"`
		Version string `json:"version"`
		Target  string `json:"target"`
		Outcome string `json:"outcome"`
	} `json:"items"`
}

// What records say of an outcome, and of the service as the one who asked.
const (
	outcomeOK    = "OK"
	methodSystem = "system"
)

// readRecords reads an audit file.
func readRecords(path string, each func(*record)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	reader := bufio.NewReaderSize(file, 1<<20)
	for line := 1; ; line++ {
		text, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var r record
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("%s:%d: %w", path, line, err)
		}
		each(&r)
	}
}

// serverVerdict is what the servers' records say.
type serverVerdict struct {
	checks int // records with a final check
	served int // items of targets that were served
	late   int // of those, such whose final check was later than the return of the call
	// stale are final checks of whatever kind that were made later than the return of some
	// change, under metadata that did not hold it yet. Such a check is wrong even where
	// nothing came of it.
	stale int
	first *record // of those that are late or stale
}

// serverJudge reads records of all replicas.
type serverJudge struct {
	ends map[string]*change // by the full name of the version
	// The changes in the order of their return, and the highest revision of each and
	// those before it.
	returned  []time.Duration
	revisions []uint64
	serverVerdict
}

// newServerJudge takes the changes in the order of their return.
func newServerJudge(changes []*change) *serverJudge {
	j := &serverJudge{ends: make(map[string]*change)}
	highest := uint64(0)
	for _, c := range changes {
		if c.target != nil {
			j.ends[c.target.version.String()] = c
		}
		highest = max(highest, uint64(c.spread.Revision))
		j.returned = append(j.returned, c.returned)
		j.revisions = append(j.revisions, highest)
	}
	return j
}

func (j *serverJudge) add(r *record) {
	if r.Checked == 0 {
		return // a control operation, or refused as a whole before anything was decided
	}
	j.checks++
	wrong := false
	if before := sort.Search(len(j.returned), func(i int) bool { return j.returned[i] >= r.Checked }); before > 0 &&
		r.Revision < j.revisions[before-1] {
		j.stale++
		wrong = true
	}
	for _, it := range r.Items {
		end := j.ends[it.Version]
		if end == nil || it.Outcome != outcomeOK { // no item is OK of a request that failed as a whole
			continue
		}
		j.served += it.Count
		if r.Checked > end.returned {
			j.late += it.Count
			wrong = true
		}
	}
	if wrong && j.first == nil {
		j.first = r
	}
}
