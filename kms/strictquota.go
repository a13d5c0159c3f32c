package kms

import (
	"context"
	"sync"
)

// quota is a range of encryptions that were durably reserved and not used yet.
type quota struct {
	mu   sync.Mutex
	left uint64
}

// The nonces of a STRICT version are 96 random bits, so SP 800-38D section 8.3 limits
// it to 2^32 encryptions. One of them makes the check value.
const (
	strictLimit    = 1<<32 - 1 // encryptions of one version
	strictRotateAt = 1 << 31   // encryptions after which the key rotates by itself
	strictBlock    = 1 << 16   // encryptions reserved at a time; a crash wastes the rest
)

// takeEncryptions takes up to n encryptions of a STRICT version and returns how many
// there were: fewer than n when the limit is near, none when it is reached.
func (s *Service) takeEncryptions(ctx context.Context, v *versionEntry, n int) (int, error) {
	quota := &v.live.quota
	quota.mu.Lock()
	defer quota.mu.Unlock()
	for quota.left < uint64(n) {
		taken, before, err := s.store.ReserveEncryptions(ctx, v.UID, s.strict.Block, s.strict.Limit)
		if err != nil {
			return 0, err
		}
		if before+taken >= s.strict.RotateAt {
			s.rotateSoon(v.Name.Key(), v.Name.Number())
		}
		if taken == 0 {
			break
		}
		quota.left += taken
	}
	granted := min(uint64(n), quota.left)
	quota.left -= granted
	return int(granted), nil
}
