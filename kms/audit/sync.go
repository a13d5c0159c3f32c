package audit

import (
	"fmt"
	"time"
)

// MaxSyncInterval is the longest time that the record of a read or a use may stay
// unsynced.
const MaxSyncInterval = time.Second

// Sync says when records of reads and of uses of keys are synced to the disk. The zero value is
// SyncAlways. Records of changes of metadata are always synced before Record returns.
type Sync struct{ interval time.Duration }

// SyncAlways syncs each record before Record returns.
func SyncAlways() Sync { return Sync{} }

// SyncEvery syncs records in the background, at most this long after they were
// written: more than 0 and at most MaxSyncInterval. A power failure can lose the
// records of that time.
func SyncEvery(interval time.Duration) (Sync, error) {
	if interval <= 0 || interval > MaxSyncInterval {
		return Sync{}, fmt.Errorf("the sync interval %v is not between 0 and %v", interval, MaxSyncInterval)
	}
	return Sync{interval}, nil
}

// ParseSync parses "always" or an interval such as "200ms".
func ParseSync(s string) (Sync, error) {
	if s == "always" {
		return SyncAlways(), nil
	}
	interval, err := time.ParseDuration(s)
	if err != nil {
		return Sync{}, fmt.Errorf("%q is neither always nor a duration", s)
	}
	return SyncEvery(interval)
}

// String is the inverse of ParseSync.
func (s Sync) String() string {
	if s.interval == 0 {
		return "always"
	}
	return s.interval.String()
}
