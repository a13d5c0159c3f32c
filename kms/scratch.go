package kms

import (
	"sync"

	"github.com/keyholt/keyholt/kms/envelope"
)

// scratch keeps the memory of calls for later ones. A batch of 1,024 needs about half a
// megabyte beside its results; making it anew each time costs clearing it, too.
type scratch struct {
	items sync.Pool // of *[]item
	opens sync.Pool // of *openScratch
	seals sync.Pool // of *sealScratch
}

// openScratch is what opening a batch of a DERIVED version needs.
type openScratch struct {
	batch  []envelope.OpenItem
	blocks blockScratch
}

// sealScratch is what sealing a batch of a DERIVED version needs.
type sealScratch struct {
	batch  []envelope.SealItem
	blocks blockScratch
}

// blockScratch is what goes to the token and what comes back: two buffers, because the
// token would need a second one itself.
type blockScratch struct {
	in      []byte
	derived []byte
}

// takeItems returns n zero items. Few are made anew: it costs little, and small memory
// that comes back must not take the place of large.
func (s *scratch) takeItems(n int) []item {
	if n < largeBatch {
		return make([]item, n)
	}
	if kept, ok := s.items.Get().(*[]item); ok && cap(*kept) >= n {
		return (*kept)[:n]
	}
	return make([]item, n)
}

// keepItems takes back items that nobody refers to any more.
func (s *scratch) keepItems(items []item) {
	if cap(items) < largeBatch {
		return
	}
	clear(items)
	s.items.Put(&items)
}

// takeOpens returns the memory for n openings.
func (s *scratch) takeOpens(n int) *openScratch {
	o, ok := s.opens.Get().(*openScratch)
	if !ok {
		o = new(openScratch)
	}
	o.batch = resized(o.batch, n)
	o.blocks.resize(n)
	return o
}

// keepOpens takes back what takeOpens returned, and wipes it.
func (s *scratch) keepOpens(o *openScratch) {
	clear(o.batch)
	o.blocks.wipe()
	s.opens.Put(o)
}

// takeSeals returns the memory for n sealings.
func (s *scratch) takeSeals(n int) *sealScratch {
	o, ok := s.seals.Get().(*sealScratch)
	if !ok {
		o = new(sealScratch)
	}
	o.batch = resized(o.batch, n)
	o.blocks.resize(n)
	return o
}

// keepSeals takes back what takeSeals returned, and wipes it.
func (s *scratch) keepSeals(o *sealScratch) {
	clear(o.batch)
	o.blocks.wipe()
	s.seals.Put(o)
}

func (b *blockScratch) resize(n int) {
	b.in = resized(b.in, n*envelope.DerivationSize)[:0]
	b.derived = resized(b.derived, n*envelope.DerivationSize)
}

func (b *blockScratch) wipe() {
	clear(b.in[:cap(b.in)][:len(b.derived)])
	clear(b.derived)
}

// resized returns n elements, in the same memory if it is large enough.
func resized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
