package keystore

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math/bits"
	"strings"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// The head of a store seals the set of all its rows, so that none can be removed, and
// none replaced by an older state of itself, without that being noticed. What the head
// seals is a keyed multiset hash, MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and
// Suh (Incremental Multiset Hash Functions, ASIACRYPT 2003), which one row's change
// changes in constant time:
//
//	set key = Seal("keyholt set key" 00 01)
//	summand = HMAC-SHA-256(set key, "keyholt set" 00 01  type  fixed...  'b' length seal)
//	D       = sum of the summands of all rows, modulo 2^256, each a little-endian number
//	head    = Seal("keyholt head" 00 01  store id  revision  seal key id  counts  D)
//
// Fields have the encoding of row seals (see Sealer): type and fixed columns as there,
// the row's seal as bytes, store id, seal key id and counts as text, revision as an
// integer, D as bytes. counts is how many rows of each type there are, as
// "origin=0 namespace=1 key=2 ...", in the order of sealedTables. A row's seal covers
// its revision and all of its content, so the summand does too.
//
// The messages sealed with one key begin differently ("keyholt row", "keyholt head",
// "keyholt set key", "keyholt anchor"), so a seal of one kind is never one of another;
// the set key is the value of a pseudorandom function at a point that is asked for
// nothing else and is never shown, and so is as good as a random key.
//
// D itself is kept in memory only. Whoever saw the sums of many states could look for
// old rows whose summands add up to the difference of two states (Wagner's generalised
// birthday problem, CRYPTO 2002), and put them back unnoticed. The head's seal, a
// pseudorandom function of D, tells nothing of it.

// digest is a number modulo 2^256: a summand or a sum, least significant word first.
type digest [4]uint64

func (d *digest) add(s *digest) {
	var carry uint64
	for i := range d {
		d[i], carry = bits.Add64(d[i], s[i], carry)
	}
}

func (d *digest) subtract(s *digest) {
	var borrow uint64
	for i := range d {
		d[i], borrow = bits.Sub64(d[i], s[i], borrow)
	}
}

// bytes returns the number's 32 bytes, little endian.
func (d *digest) bytes() []byte {
	b := make([]byte, 0, 32)
	for _, word := range d {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return b
}

// counts is how many rows each of sealedTables has.
type counts [8]int64

// String returns the text that the head holds.
func (c *counts) String() string {
	terms := make([]string, len(sealedTables))
	for i, t := range sealedTables {
		terms[i] = fmt.Sprintf("%s=%d", t.rowType, c[i])
	}
	return strings.Join(terms, " ")
}

// rowID names a row of any table: SHA-256 over its type and the columns that name it.
type rowID [sha256.Size]byte

// idOf returns the name of the row whose naming columns these are, or begin with.
func idOf(t *table, fixed []any) rowID {
	message, err := appendField(nil, t.rowType)
	for _, value := range fixed[:t.naming] {
		if err == nil {
			message, err = appendField(message, value)
		}
	}
	if err != nil { // a value that no database gives: the seal is not good either
		return rowID{}
	}
	return sha256.Sum256(message)
}

// ring is a seal key with what is derived from it.
type ring struct {
	sealer Sealer
	uid    hsm.UID
	keyID  string // the UID's text
	set    [32]byte
}

func newRing(sealer Sealer, uid hsm.UID) *ring {
	return &ring{sealer: sealer, uid: uid, keyID: sealer.KeyID(), set: sealer.Seal([]byte("keyholt set key\x00\x01"))}
}

// summer makes summands with one buffer. It is for one goroutine.
type summer struct {
	mac     hash.Hash
	message []byte
}

func newSummer(r *ring) *summer { return &summer{mac: hmac.New(sha256.New, r.set[:])} }

// summand returns what a sealed row adds to the digest of the set.
func (s *summer) summand(t *table, r *record) (digest, error) {
	message := append(s.message[:0], "keyholt set\x00\x01"...)
	message, err := appendField(message, t.rowType)
	for _, value := range r.fixed {
		if err == nil {
			message, err = appendField(message, value)
		}
	}
	if err == nil {
		message, err = appendField(message, r.seal)
	}
	if err != nil {
		return digest{}, err
	}
	s.message = message
	s.mac.Reset()
	s.mac.Write(message)
	var sum [sha256.Size]byte
	s.mac.Sum(sum[:0])
	var d digest
	for i := range d {
		d[i] = binary.LittleEndian.Uint64(sum[8*i:])
	}
	return d, nil
}

// headSeal returns the seal of a set at a revision.
func (r *ring) headSeal(storeID string, revision kms.Revision, rows string, sum *digest) [32]byte {
	message := []byte("keyholt head\x00\x01")
	for _, value := range []any{storeID, int64(revision), r.keyID, rows, sum.bytes()} {
		message, _ = appendField(message, value) // these types always can be
	}
	return r.sealer.Seal(message)
}
