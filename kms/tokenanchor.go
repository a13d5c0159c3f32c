package kms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// TokenAnchor is an Anchor in the token: the CKA_LABEL of a key object that serves no
// other end, so that nothing is lost with it. All replicas share it.
//
//	CKA_ID    = first 16 bytes of SHA-256("keyholt anchor v1" || 00 || store id)
//	CKA_LABEL = keyholt-anchor:<store id>:<revision>:<head seal, first 16 bytes in hex>
//
// Two replicas that note at the same time may leave the older of their heads; the next
// change puts that right. While a process writes the label, others may not find the object
// (SoftHSM2 empties its file first), so that it is not found means nothing at first, and
// one that was found once is never made again: a second one would leave both ambiguous.
type TokenAnchor struct {
	token   hsm.Token
	storeID string
	uid     hsm.UID
	exists  atomic.Bool // it was found
}

// The object is looked for so often, with pauses, before it counts as missing.
const (
	anchorLooks = 8
	anchorPause = 5 * time.Millisecond
)

// NewTokenAnchor returns the anchor of a store in a token. The object is made when
// something is first noted.
func NewTokenAnchor(token hsm.Token, storeID string) *TokenAnchor {
	sum := sha256.Sum256([]byte("keyholt anchor v1\x00" + storeID))
	return &TokenAnchor{token: token, storeID: storeID, uid: hsm.UID(sum[:16])}
}

// Name says where the anchor is.
func (a *TokenAnchor) Name() string { return "the token object " + a.uid.String() }

// Read returns the head noted. Of its seal the label holds the first 16 bytes only; the
// others are zero.
func (a *TokenAnchor) Read(ctx context.Context) (Head, bool, error) {
	object, err := a.find(ctx)
	if errors.Is(err, hsm.ErrKeyNotFound) {
		return Head{}, false, nil
	}
	if err != nil {
		return Head{}, false, tokenError(err, "read the anchor")
	}
	head, ok := a.parse(object.Label)
	if !ok {
		return Head{}, false, errorf(ErrTampered, "%s has the label %q, which is none that this store gives it", a.Name(), object.Label)
	}
	return head, true, nil
}

// find looks the object up.
func (a *TokenAnchor) find(ctx context.Context) (object hsm.Object, err error) {
	for look := 1; ; look++ {
		if object, err = a.token.Key(ctx, a.uid); err == nil {
			a.exists.Store(true)
		}
		if !errors.Is(err, hsm.ErrKeyNotFound) || look == anchorLooks {
			return object, err
		}
		timer := time.NewTimer(anchorPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return object, ctx.Err()
		}
	}
}

// Note writes the label. ErrUnsupported where the module cannot change labels.
func (a *TokenAnchor) Note(ctx context.Context, head Head) error {
	label := a.prefix() + strconv.FormatUint(uint64(head.Revision), 10) + ":" + hex.EncodeToString(head.Seal[:anchorSealSize])
	err := a.token.SetLabel(ctx, a.uid, label)
	if errors.Is(err, hsm.ErrKeyNotFound) {
		if _, err = a.find(ctx); err == nil {
			err = a.token.SetLabel(ctx, a.uid, label)
		}
	}
	if errors.Is(err, hsm.ErrKeyNotFound) && !a.exists.Load() {
		if _, err = a.token.GenerateKey(ctx, a.uid, label, hsm.AES256Blocks); errors.Is(err, hsm.ErrKeyExists) {
			err = a.token.SetLabel(ctx, a.uid, label)
		}
	}
	if err != nil {
		return tokenError(err, "note the revision of the store")
	}
	a.exists.Store(true)
	return nil
}

// anchorSealSize is how many bytes of a head's seal an anchor keeps at least.
const anchorSealSize = 16

func (a *TokenAnchor) prefix() string { return fmt.Sprintf("keyholt-anchor:%s:", a.storeID) }

func (a *TokenAnchor) parse(label string) (head Head, ok bool) {
	rest, ok := strings.CutPrefix(label, a.prefix())
	if !ok {
		return Head{}, false
	}
	number, seal, ok := strings.Cut(rest, ":")
	if !ok {
		return Head{}, false
	}
	revision, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return Head{}, false
	}
	bytes, err := hex.DecodeString(seal)
	if err != nil || len(bytes) != anchorSealSize {
		return Head{}, false
	}
	head.Revision = Revision(revision)
	copy(head.Seal[:], bytes)
	return head, true
}
