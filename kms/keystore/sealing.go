package keystore

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"

	"github.com/keyholt/keyholt/kms"
)

// Sealer makes the seals of rows. kms.Sealer is one. It must be safe for concurrent
// use, and Seal must not keep the message.
//
// The message of a row is the following, and it is a durable format: a release that
// changed it could not read a store of the release before. Golden bytes are in
// testdata/seals.json.
//
//	message = "keyholt row" 00 01  field...
//	field   = 't' length(4) bytes      text, UTF-8
//	        | 'b' length(4) bytes      bytes
//	        | 'i' value(8)             integer, two's complement
//	        | 'n'                      NULL
//
// with lengths and values in big endian. The fields are, in this order:
//
//  1. row type: text "origin", "namespace", "key", "version", "reservation", "orphan",
//     "import_job" or "removal"
//  2. the columns of the row that never change, those that name it first
//  3. revision: integer
//  4. seal_key_id: text
//  5. the other columns, without those at the end that are NULL
//
// where the columns are those of tables.go in their order, and each field is the value
// just as it stands in the column: nothing is encoded again when a seal is checked. A
// column that a later schema adds comes last and is NULL in the rows that exist, so
// their seals stay good. Equal messages come from equal rows only: the row type fixes
// how many columns 2 has and the type of each, and every field tells its own length.
type Sealer interface {
	// KeyID names the seal key. It is stored with every row.
	KeyID() string
	// Seal returns the HMAC-SHA-256 (FIPS 198-1) of the message under the seal key.
	Seal(message []byte) [32]byte
}

// sealHeader begins every message; its last byte is the version of the layout.
const sealHeader = "keyholt row\x00\x01"

// appendMessage appends what the seal of the record is made of.
func appendMessage(dst []byte, t *table, r *record) ([]byte, error) {
	dst = append(dst, sealHeader...)
	dst, err := appendField(dst, t.rowType)
	for _, value := range r.fixed {
		if err == nil {
			dst, err = appendField(dst, value)
		}
	}
	if err == nil {
		dst, err = appendField(dst, int64(r.revision))
	}
	if err == nil {
		dst, err = appendField(dst, r.sealKeyID)
	}
	end := len(r.content)
	for end > 0 && r.content[end-1] == nil {
		end--
	}
	for _, value := range r.content[:end] {
		if err == nil {
			dst, err = appendField(dst, value)
		}
	}
	return dst, err
}

func appendField(dst []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(dst, 'n'), nil
	case int64:
		dst = append(dst, 'i')
		return binary.BigEndian.AppendUint64(dst, uint64(v)), nil
	case string:
		dst = append(dst, 't')
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
		return append(dst, v...), nil
	case []byte:
		dst = append(dst, 'b')
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
		return append(dst, v...), nil
	default:
		return nil, fmt.Errorf("a column holds a value of type %T", value)
	}
}

// seal fills in the record's seal and the id of the key that made it.
func seal(sealer Sealer, t *table, r *record) error {
	r.sealKeyID = sealer.KeyID()
	message, err := appendMessage(nil, t, r)
	if err != nil {
		return err
	}
	sum := sealer.Seal(message)
	r.seal = sum[:]
	return nil
}

// verifier checks the seals of many records with one buffer. It is for one goroutine.
type verifier struct {
	ring    *ring
	summer  *summer
	message []byte
}

func newVerifier(r *ring) *verifier { return &verifier{ring: r, summer: newSummer(r)} }

// verify returns what the record is in the set, or an error that is kms.ErrTampered
// unless it carries the seal that it should.
func (v *verifier) verify(t *table, r *record) (entry, error) {
	if r.sealKeyID != v.ring.keyID {
		return entry{}, tampered(t.resource(r.fixed), "its seal was made with the seal key %q, but the store's is %q",
			clip(r.sealKeyID), v.ring.keyID)
	}
	message, err := appendMessage(v.message[:0], t, r)
	if err != nil {
		return entry{}, tampered(t.resource(r.fixed), "%v", err)
	}
	v.message = message
	sum := v.ring.sealer.Seal(message)
	if !hmac.Equal(sum[:], r.seal) {
		return entry{}, tampered(t.resource(r.fixed), "the row does not carry the seal that it should")
	}
	return v.entry(t, r)
}

// entry returns what a record is in the set whose seal is good.
func (v *verifier) entry(t *table, r *record) (entry, error) {
	summand, err := v.summer.summand(t, r)
	return entry{summand: summand, revision: r.revision}, err
}

// revisionWithin checks that a row is of a revision that the store has reached.
func revisionWithin(t *table, r *record, newest kms.Revision) error {
	if r.revision < 1 || r.revision > newest {
		return tampered(t.resource(r.fixed), "it is of revision %d, but the store is at %d", r.revision, newest)
	}
	return nil
}

// clip keeps what stands in a tampered row from filling the error message.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
