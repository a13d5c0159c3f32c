package loadgen

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies from 1 µs to an hour, to three digits.
const (
	lowestLatency  = 1
	highestLatency = int64(time.Hour / time.Microsecond)
	latencyDigits  = 3
)

// shards bounds how many histograms a run holds: one takes hundreds of kilobytes.
const shards = 16

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(lowestLatency, highestLatency, latencyDigits)
}

// recorder collects what callers measure. Callers share a few shards, so that they
// seldom wait for each other.
type recorder struct{ parts [shards]shard }

type shard struct {
	mu sync.Mutex
	Result
}

func newRecorder() *recorder {
	r := new(recorder)
	for i := range r.parts {
		r.parts[i].Latency = newHistogram()
	}
	return r
}

// work adds a share of an answered request.
func (r *recorder) work(caller, items int, share float64) {
	s := &r.parts[caller%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Requests += share
	s.Items += share * float64(items)
}

func (r *recorder) latency(caller int, d time.Duration) {
	micros := min(max(int64(d/time.Microsecond), lowestLatency), highestLatency)
	s := &r.parts[caller%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.Latency.RecordValue(micros) // within the bounds
}

func (r *recorder) failure(caller int, err error) {
	s := &r.parts[caller%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Errors++
	if s.FirstError == nil {
		s.FirstError = err
	}
}

// result adds everything up. Nobody records any more.
func (r *recorder) result(w window) *Result {
	total := &Result{Seconds: w.to.Sub(w.from).Seconds(), Latency: newHistogram()}
	for i := range r.parts {
		s := &r.parts[i]
		total.Requests += s.Requests
		total.Items += s.Items
		total.Errors += s.Errors
		if total.FirstError == nil {
			total.FirstError = s.FirstError
		}
		total.Latency.Merge(s.Latency)
	}
	return total
}
