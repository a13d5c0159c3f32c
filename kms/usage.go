package kms

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// usedActions are the actions that use key versions, each with its counter.
var usedActions = [...]Action{
	ActionAsymDecrypt, ActionBatchDecrypt, ActionBatchEncrypt, ActionBatchMac, ActionBatchSign,
	ActionBatchVerifyMac, ActionDecrypt, ActionEncrypt, ActionGenerateDataKey, ActionGenerateMac,
	ActionGetPublicKey, ActionReEncryptFrom, ActionReEncryptTo, ActionRewrapDataKey, ActionSign,
	ActionUnwrapDataKey, ActionVerify, ActionVerifyMac, ActionWrapDataKey,
}

// usageIndexes are the places of the actions in usedActions.
var usageIndexes = func() map[Action]int {
	indexes := make(map[Action]int, len(usedActions))
	for i, a := range usedActions {
		indexes[a] = i
	}
	return indexes
}()

// usageIndex is the place of an action in usedActions; -1: it uses no version.
func usageIndex(a Action) int {
	if i, ok := usageIndexes[a]; ok {
		return i
	}
	return -1
}

// targetAction is what the version that makes the new ciphertext is used for, in a
// request of action a that opens another one.
func targetAction(a Action) Action {
	switch a {
	case ActionReEncryptFrom:
		return ActionReEncryptTo
	case ActionUnwrapDataKey:
		return ActionRewrapDataKey
	default:
		return a
	}
}

// versionUsage counts uses of one version that are not in the store yet, by place in
// usedActions.
type versionUsage struct {
	uid      hsm.UID
	listed   atomic.Bool // in usageCounters.unwritten
	counters [len(usedActions)]struct {
		count atomic.Uint64
		last  atomic.Int64 // Unix time in nanoseconds
	}
}

// usageCounters count what key versions are used for. Counting is one addition in
// memory; what was counted is written to the store from time to time, so a crash loses
// at most one interval.
type usageCounters struct {
	errand
	service *Service
	every   time.Duration

	// turn holds a token while counts are neither being written nor read together with
	// what is in the store.
	turn chan struct{}

	mu        sync.Mutex
	unwritten []*versionUsage
}

const (
	defaultUsageFlush = 10 * time.Second
	// usageTimeout bounds the last write, when the service is closed.
	usageTimeout = 5 * time.Second
)

func (u *usageCounters) init(every time.Duration) {
	u.every = every
	if every == 0 {
		u.every = defaultUsageFlush
	}
	u.turn = make(chan struct{}, 1)
	u.turn <- struct{}{}
}

func (u *usageCounters) start(s *Service) {
	u.service = s
	u.errand.start(func(ctx context.Context) time.Duration {
		if err := s.flushUsage(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "usage statistics could not be written; they will be later",
				slog.Any("error", causeOf(err)))
		}
		return u.every
	})
}

// add counts the items of a request that were served.
func (u *usageCounters) add(e *Event) {
	if e.Err != nil {
		return
	}
	index, target := usageIndex(e.Action), usageIndex(targetAction(e.Action))
	if index < 0 {
		return
	}
	at := e.Time.UnixNano()
	for i := range e.Items {
		item := &e.Items[i]
		if item.Err != nil {
			continue
		}
		u.count(item.version, index, item.Count, at)
		u.count(item.target, target, item.Count, at)
	}
}

func (u *usageCounters) count(v *versionEntry, index, n int, at int64) {
	if v == nil {
		return
	}
	usage := v.live.usage.Load()
	if usage == nil {
		v.live.usage.CompareAndSwap(nil, &versionUsage{uid: v.UID})
		usage = v.live.usage.Load()
	}
	c := &usage.counters[index]
	if c.last.Load() < at {
		c.last.Store(at)
	}
	c.count.Add(uint64(n))
	if !usage.listed.Load() && usage.listed.CompareAndSwap(false, true) {
		u.mu.Lock()
		u.unwritten = append(u.unwritten, usage)
		u.mu.Unlock()
	}
}

// flushUsage writes what was counted since the last time. What cannot be written is
// counted again: rather twice than never.
func (s *Service) flushUsage(ctx context.Context) error {
	u := &s.usage
	if err := u.take(ctx); err != nil {
		return err
	}
	defer u.give()
	u.mu.Lock()
	list := u.unwritten
	u.unwritten = nil
	u.mu.Unlock()
	var counts []UsageCount
	for _, usage := range list {
		usage.listed.Store(false) // before its counters are read: what is counted from here on lists it again
		counts = usage.appendCounts(counts, func(n *atomic.Uint64) uint64 { return n.Swap(0) })
	}
	if len(counts) == 0 {
		return nil
	}
	err := s.store.AddUsage(ctx, counts)
	if err == nil {
		return nil
	}
	now := s.snapshot.Load()
	for _, c := range counts {
		if v := now.versionByUID(c.UID); v != nil {
			u.count(v, usageIndex(c.Action), int(c.Count), c.LastUsed.UnixNano())
		}
	}
	return err
}

// stop ends the writing with a last write.
func (u *usageCounters) stop() {
	s := u.service
	if s == nil {
		return
	}
	u.errand.stop()
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	if err := s.flushUsage(ctx); err != nil {
		s.log.ErrorContext(ctx, "the last usage statistics could not be written", slog.Any("error", causeOf(err)))
	}
}

func (u *usageCounters) take(ctx context.Context) error {
	select {
	case <-u.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u *usageCounters) give() { u.turn <- struct{}{} }

// appendCounts appends the counters that are not zero, as read tells.
func (u *versionUsage) appendCounts(counts []UsageCount, read func(*atomic.Uint64) uint64) []UsageCount {
	for i := range u.counters {
		c := &u.counters[i]
		if n := read(&c.count); n > 0 {
			counts = append(counts, UsageCount{
				UID: u.uid, Action: usedActions[i], Count: n,
				LastUsed: time.Unix(0, c.last.Load()).UTC().Truncate(time.Microsecond),
			})
		}
	}
	return counts
}

// usageOf is how often versions were used: what is in the store, and what this process
// has not written yet. What other replicas have not written yet is missing.
func (s *Service) usageOf(ctx context.Context, versions ...*versionEntry) (map[hsm.UID][]UsageCount, error) {
	uids := make([]hsm.UID, len(versions))
	for i, v := range versions {
		uids[i] = v.UID
	}
	if err := s.usage.take(ctx); err != nil {
		return nil, err
	}
	defer s.usage.give()
	counts, err := s.store.Usage(ctx, uids)
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		if usage := v.live.usage.Load(); usage != nil {
			counts = usage.appendCounts(counts, func(n *atomic.Uint64) uint64 { return n.Load() })
		}
	}
	byVersion := make(map[hsm.UID][]UsageCount, len(versions))
	for _, c := range counts {
		byVersion[c.UID] = addCount(byVersion[c.UID], c)
	}
	for _, list := range byVersion {
		slices.SortFunc(list, func(a, b UsageCount) int { return strings.Compare(string(a.Action), string(b.Action)) })
	}
	return byVersion, nil
}

// addCount adds a count to those of its version.
func addCount(list []UsageCount, c UsageCount) []UsageCount {
	for i := range list {
		if list[i].Action == c.Action {
			list[i].Count += c.Count
			if c.LastUsed.After(list[i].LastUsed) {
				list[i].LastUsed = c.LastUsed
			}
			return list
		}
	}
	return append(list, c)
}

// totalUsage is the sum of counts, and when the last use was.
func totalUsage(counts []UsageCount) (n uint64, last time.Time) {
	for _, c := range counts {
		n += c.Count
		if c.LastUsed.After(last) {
			last = c.LastUsed
		}
	}
	return n, last
}
