package prove

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

// storePair is a PostgreSQL server and its synchronous standby. Replicas reach both over
// links, whose addresses stay when the servers behind them are replaced.
type storePair struct {
	primary, standby     *pgtest.Cluster
	toPrimary, toStandby *link
	dsn                  string
}

func newStorePair(t *testing.T) *storePair {
	t.Helper()
	s := &storePair{primary: pgtest.Start(t)}
	s.standby = pgtest.StartStandby(t, s.primary, pgtest.Synchronous())
	s.toPrimary, s.toStandby = newLink(t, addressOf(s.primary)), newLink(t, addressOf(s.standby))
	s.dsn = strings.NewReplacer(
		addressOf(s.primary), s.toPrimary.address(), addressOf(s.standby), s.toStandby.address(),
	).Replace(pgtest.PairDSN(s.primary, s.standby, s.primary.NewDatabase(t)))
	return s
}

func addressOf(c *pgtest.Cluster) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port()))
}

// The faults of the store.
const (
	storeRestarted  fault = "store restarted"
	storeStopped    fault = "store stopped without a checkpoint, and started"
	storeKilled     fault = "store killed, and started"
	storeFailedOver fault = "store killed, and failed over to the standby"
)

var storeFaults = []fault{storeFailedOver, storeRestarted, storeKilled, storeStopped}

// suffer makes the fault happen, leaves the store away for a while, and returns when there
// is one again that accepts writes.
func (s *storePair) suffer(t *testing.T, f fault, away time.Duration) {
	t.Helper()
	switch f {
	case storeRestarted:
		s.primary.Stop(t, pgtest.FastShutdown)
	case storeStopped:
		s.primary.Stop(t, pgtest.ImmediateShutdown)
	case storeKilled, storeFailedOver:
		s.primary.Kill(t)
	}
	pause(t.Context(), away)
	if f != storeFailedOver {
		s.primary.Start(t)
		return
	}
	s.standby.Promote(t)
	s.primary, s.standby = s.standby, nil
	s.toPrimary, s.toStandby = s.toStandby, s.toPrimary
}

// repair gives the primary a new standby if it has none.
func (s *storePair) repair(t *testing.T) {
	t.Helper()
	if s.standby == nil {
		s.standby = pgtest.StartStandby(t, s.primary, pgtest.Synchronous())
		s.toStandby.retarget(addressOf(s.standby))
	}
}
