package kms

import (
	"sync"
	"testing"
	"time"
)

// While a result is on its way under a snapshot, nothing later is acknowledged, whenever
// it is asked while snapshots are replaced.
func TestNothingIsAcknowledgedOverAResult(t *testing.T) {
	t.Parallel()
	const changes = 30_000
	s := &Service{now: time.Now}
	s.replica.service = s
	s.replica.nudge, s.replica.stir = make(chan struct{}, 1), make(chan struct{})
	s.snapshot.Store(newSnapshot())

	ended := make(chan struct{})
	var requests sync.WaitGroup
	for range 2 {
		requests.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				held := s.hold()
				for range 1000 { // until the snapshot is being replaced
					if s.snapshot.Load() != held {
						break
					}
				}
				acknowledged := s.replica.acknowledged()
				s.drop(held)
				if acknowledged > held.Revision() {
					t.Errorf("revision %d was acknowledged while a result was on its way under %d", acknowledged, held.Revision())
					return
				}
			}
		})
	}
	requests.Go(func() { // who replaces a snapshot is held up now and then
		for {
			select {
			case <-ended:
				return
			default:
				s.replica.stirred()
			}
		}
	})
	for i := range changes {
		next := newSnapshot()
		next.head.Revision = Revision(i + 1)
		s.replace(next)
	}
	close(ended)
	requests.Wait()
}
