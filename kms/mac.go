package kms

import (
	"context"
	"crypto/hmac"

	"github.com/keyholt/keyholt/hsm"
)

// GenerateMacRequest asks for the tag of a message under a MAC key.
type GenerateMacRequest struct {
	Key     KeyName // its primary version; or
	Version VersionName
	Message []byte // 1 to MaxMessage bytes
}

// MacResult is a tag and the version that made it. A tag is never truncated.
type MacResult struct {
	Mac       []byte
	Version   VersionName
	Algorithm Algorithm
	// Err is for results of BatchGenerateMac: nil if the item succeeded; else the other
	// fields but Version are zero.
	Err error
}

// BatchGenerateMacRequest asks for many tags.
type BatchGenerateMacRequest struct {
	Parent NamespaceName
	// Key or Version, at most one: for items that name none.
	Key     KeyName
	Version VersionName
	Items   []MacItem
}

// VerifyMacRequest asks whether a tag is that of a message. Who verifies what an older
// version has made names the version: a tag does not tell it.
type VerifyMacRequest struct {
	Key     KeyName // its primary version; or
	Version VersionName
	Message []byte
	Mac     []byte // 1 to MaxSignature bytes
}

// VerifyMacResult tells whether a tag is that of a message, whole: a truncated one is not.
type VerifyMacResult struct {
	Valid     bool
	Version   VersionName
	Algorithm Algorithm
	// Err is for results of BatchVerifyMac: nil if the tag could be examined, whatever came
	// of it; else the other fields but Version are zero.
	Err error
}

// BatchVerifyMacRequest asks of many tags whether they are those of their messages.
type BatchVerifyMacRequest struct {
	Parent NamespaceName
	// Key or Version, at most one: for items that name none.
	Key     KeyName
	Version VersionName
	Items   []MacItem
}

// MacItem is one tag of a batch.
type MacItem struct {
	Key     KeyName // replaces the request's, as does
	Version VersionName
	Message []byte
	Mac     []byte // BatchVerifyMac: to be verified
	// Invalid is as in DataKeyItem.
	Invalid error
}

// GenerateMac returns the tag of a message, made by a version of a MAC key. Errors, beside
// those of all operations: ErrPurpose.
func (s *Service) GenerateMac(ctx context.Context, p Principal, r *GenerateMacRequest) (*MacResult, error) {
	it, err := s.performKey(ctx, newKeyCall(p, ActionGenerateMac,
		keyItem{named: namedKey{r.Key, r.Version}, message: r.Message}, checkMessage(r.Message)))
	if err != nil {
		return nil, err
	}
	return it.mac(), nil
}

// BatchGenerateMac returns many tags. The token makes them in as many sessions as it has.
func (s *Service) BatchGenerateMac(ctx context.Context, p Principal, r *BatchGenerateMacRequest) ([]MacResult, error) {
	c := newMacBatch(p, ActionBatchMac, r.Parent, namedKey{r.Key, r.Version}, r.Items, func(from *MacItem) error {
		if from.Mac != nil {
			return Invalid(Violation{"mac", "is for BatchVerifyMac"})
		}
		return nil
	})
	if err := s.performData(ctx, c); err != nil {
		return nil, err
	}
	results := make([]MacResult, len(c.items))
	for i := range c.items {
		results[i] = *c.items[i].mac()
	}
	return results, nil
}

// VerifyMac tells whether a tag is that of a message. The token makes the tag again, and the
// two are compared in constant time.
func (s *Service) VerifyMac(ctx context.Context, p Principal, r *VerifyMacRequest) (*VerifyMacResult, error) {
	it, err := s.performKey(ctx, newKeyCall(p, ActionVerifyMac,
		keyItem{named: namedKey{r.Key, r.Version}, message: r.Message, given: r.Mac},
		firstError(checkMessage(r.Message), checkGiven("mac", r.Mac))))
	if err != nil {
		return nil, err
	}
	return it.macVerdict(), nil
}

// BatchVerifyMac tells of many tags whether they are those of their messages.
func (s *Service) BatchVerifyMac(ctx context.Context, p Principal, r *BatchVerifyMacRequest) ([]VerifyMacResult, error) {
	c := newMacBatch(p, ActionBatchVerifyMac, r.Parent, namedKey{r.Key, r.Version}, r.Items, func(from *MacItem) error {
		return checkGiven("mac", from.Mac)
	})
	if err := s.performData(ctx, c); err != nil {
		return nil, err
	}
	results := make([]VerifyMacResult, len(c.items))
	for i := range c.items {
		results[i] = *c.items[i].macVerdict()
	}
	return results, nil
}

func newMacBatch(
	p Principal, a Action, parent NamespaceName, named namedKey, items []MacItem, check func(*MacItem) error,
) *keyCall {
	return newKeyBatch(p, a, parent, named, len(items), func(i int) (keyItem, error) {
		from := &items[i]
		return keyItem{named: namedKey{from.Key, from.Version}, message: from.Message, given: from.Mac},
			firstError(from.Invalid, checkMessage(from.Message), check(from))
	})
}

func (it *keyItem) mac() *MacResult {
	if it.err != nil {
		return &MacResult{Version: nameOf(it.version), Err: it.err}
	}
	return &MacResult{Mac: it.output, Version: it.version.Name, Algorithm: it.version.algorithm}
}

func (it *keyItem) macVerdict() *VerifyMacResult {
	if it.err != nil {
		return &VerifyMacResult{Version: nameOf(it.version), Err: it.err}
	}
	return &VerifyMacResult{Valid: it.valid, Version: it.version.Name, Algorithm: it.version.algorithm}
}

// makeMacs has the token make the tags of items under one version.
func (s *Service) makeMacs(ctx context.Context, v *versionEntry, items []*keyItem) error {
	ctx, end := s.begin(ctx, PhaseCipher)
	defer end()
	if len(items) == 1 {
		tag, err := s.token.MAC(ctx, v.UID, items[0].input)
		if err != nil {
			return tokenError(err, "make a MAC")
		}
		items[0].output = tag
		return nil
	}
	batch := make([]hsm.MACItem, len(items))
	for i, it := range items {
		batch[i].Message = it.input
	}
	if err := s.token.MACBatch(ctx, v.UID, batch); err != nil {
		return tokenError(err, "make a MAC")
	}
	for i, it := range items {
		if it.output = batch[i].Tag; batch[i].Err != nil {
			it.output, it.err = nil, tokenError(batch[i].Err, "make a MAC")
		}
	}
	return nil
}

// verifyMacs makes the tags again. None of them leaves here.
func (s *Service) verifyMacs(ctx context.Context, v *versionEntry, items []*keyItem) error {
	if err := s.makeMacs(ctx, v, items); err != nil {
		return err
	}
	for _, it := range items {
		if it.err == nil {
			it.valid = hmac.Equal(it.output, it.given)
		}
		clear(it.output)
		it.output = nil
	}
	return nil
}
