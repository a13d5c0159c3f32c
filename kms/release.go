package kms

// A result that has passed its final check is counted on the snapshot of that check
// until it is handed over: until the call on the service returns to the transport. How
// fast the transport's peer reads is not waited for, or a peer that does not read could
// keep a replica from acknowledging. Who has changed something waits until the counts of
// all older snapshots are zero: then nothing is handed over any more that was decided
// without knowing of the change.

// hold counts one more result on the current snapshot and returns it. The count is made
// before it is seen that the snapshot still is the current one, so whoever replaces it
// either sees the count or is seen.
func (s *Service) hold() *Snapshot {
	for {
		now := s.snapshot.Load()
		now.handing.Add(1)
		if s.snapshot.Load() == now {
			return now
		}
		s.drop(now)
	}
}

// drop ends what hold began; nil: nothing was held.
func (s *Service) drop(held *Snapshot) {
	if held == nil {
		return
	}
	if held.handing.Add(-1) == 0 && s.snapshot.Load() != held {
		s.replica.drained()
	}
}
