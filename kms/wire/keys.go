package wire

import (
	"math"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeCreateKeyRequest makes the message.
func EncodeCreateKeyRequest(r *kms.CreateKeyRequest) *kmsv1.CreateKeyRequest {
	return &kmsv1.CreateKeyRequest{
		Parent: encodeName(r.Name.Namespace()),
		KeyId:  r.Name.ID(),
		Key: &kmsv1.Key{
			Purpose:           purposes.encodeRequested(r.Purpose),
			Algorithm:         algorithms.encodeRequested(r.Algorithm),
			ProtectionProfile: profiles.encodeRequested(r.Profile),
			Labels:            r.Labels,
			RotationPeriod:    encodeDuration(r.RotationPeriod),
		},
		RequestId: r.RequestID,
	}
}

// DecodeCreateKeyRequest reads the request. An unset key has all the defaults; fields of
// it that are not the caller's to set are violations.
func DecodeCreateKeyRequest(m *kmsv1.CreateKeyRequest) (*kms.CreateKeyRequest, error) {
	d := decoder{}
	key := m.GetKey()
	r := &kms.CreateKeyRequest{
		Name:           d.newKey(m.GetParent(), m.GetKeyId()),
		Purpose:        purposes.strict(&d, "key.purpose", key.GetPurpose()),
		Algorithm:      algorithms.strict(&d, "key.algorithm", key.GetAlgorithm()),
		Profile:        profiles.strict(&d, "key.protection_profile", key.GetProtectionProfile()),
		Labels:         key.GetLabels(),
		RotationPeriod: d.duration("key.rotation_period", key.GetRotationPeriod()),
		RequestID:      m.GetRequestId(),
	}
	d.refuseOutput(key)
	return r, d.err()
}

// refuseOutput refuses the fields of a key to be made that are not the caller's to set.
func (d *decoder) refuseOutput(key *kmsv1.Key) {
	for _, output := range []struct {
		field string
		set   bool
	}{
		{"key.name", key.GetName() != ""},
		{"key.primary_version", key.GetPrimaryVersion() != ""},
		{"key.primary_state", key.GetPrimaryState() != 0},
		{"key.version_count", key.GetVersionCount() != 0},
		{"key.create_time", key.GetCreateTime() != nil},
		{"key.rotate_time", key.GetRotateTime() != nil},
		{"key.etag", key.GetEtag() != ""},
		{"key.next_rotation_time", key.GetNextRotationTime() != nil},
	} {
		if output.set {
			d.refuse(output.field, "must not be set")
		}
	}
}

// newKey makes the name of a key to create from its parent and its last segment.
func (d *decoder) newKey(parent, id string) kms.KeyName {
	namespace := d.namespace("parent", parent)
	return named(d, "key_id", id, true, func(id string) (kms.KeyName, error) {
		if namespace.IsZero() {
			// The parent is wrong already; the segments have one grammar.
			_, err := kms.NewNamespaceName(id)
			return kms.KeyName{}, err
		}
		return kms.NewKeyName(namespace, id)
	})
}

// EncodeGetKeyRequest makes the message.
func EncodeGetKeyRequest(name kms.KeyName) *kmsv1.GetKeyRequest {
	return &kmsv1.GetKeyRequest{Name: encodeName(name)}
}

// DecodeGetKeyRequest returns the name of the key asked for.
func DecodeGetKeyRequest(m *kmsv1.GetKeyRequest) (kms.KeyName, error) {
	d := decoder{}
	name := d.key("name", m.GetName())
	return name, d.err()
}

// EncodeListKeysRequest makes the message.
func EncodeListKeysRequest(parent kms.NamespaceName, page kms.Page) *kmsv1.ListKeysRequest {
	return &kmsv1.ListKeysRequest{
		Parent:    encodeName(parent),
		PageSize:  encodeInt(page.Size),
		PageToken: page.Token,
	}
}

// DecodeListKeysRequest returns the namespace and the page asked for.
func DecodeListKeysRequest(m *kmsv1.ListKeysRequest) (kms.NamespaceName, kms.Page, error) {
	d := decoder{}
	parent := d.namespace("parent", m.GetParent())
	return parent, kms.Page{Size: int(m.GetPageSize()), Token: m.GetPageToken()}, d.err()
}

// EncodeListKeysResponse makes the message.
func EncodeListKeysResponse(list *kms.KeyList) *kmsv1.ListKeysResponse {
	return &kmsv1.ListKeysResponse{Keys: each(list.Keys, EncodeKey), NextPageToken: list.NextToken}
}

// DecodeListKeysResponse reads a page.
func DecodeListKeysResponse(m *kmsv1.ListKeysResponse) (*kms.KeyList, error) {
	keys, err := all(m.GetKeys(), DecodeKey)
	if err != nil {
		return nil, err
	}
	return &kms.KeyList{Keys: keys, NextToken: m.GetNextPageToken()}, nil
}

// The paths that an update mask may have.
const (
	pathLabels         = "labels"
	pathRotationPeriod = "rotation_period"
)

// EncodeUpdateKeyRequest makes the message; the mask has a path for each field that is
// not nil.
func EncodeUpdateKeyRequest(r *kms.UpdateKeyRequest) *kmsv1.UpdateKeyRequest {
	m := &kmsv1.UpdateKeyRequest{
		Key:        &kmsv1.Key{Name: encodeName(r.Name), Etag: r.Etag},
		UpdateMask: &fieldmaskpb.FieldMask{},
	}
	if r.Labels != nil {
		m.Key.Labels = *r.Labels
		m.UpdateMask.Paths = append(m.UpdateMask.Paths, pathLabels)
	}
	if r.RotationPeriod != nil {
		m.Key.RotationPeriod = encodeDuration(*r.RotationPeriod)
		m.UpdateMask.Paths = append(m.UpdateMask.Paths, pathRotationPeriod)
	}
	return m
}

// DecodeUpdateKeyRequest reads the request. Fields of the key that the mask does not
// name mean nothing, as AIP-134 has it, so that a caller may send back a key it has
// read; but for its name, and the etag.
func DecodeUpdateKeyRequest(m *kmsv1.UpdateKeyRequest) (*kms.UpdateKeyRequest, error) {
	d := decoder{}
	r := &kms.UpdateKeyRequest{
		Name: d.key("key.name", m.GetKey().GetName()),
		Etag: m.GetKey().GetEtag(),
	}
	if len(m.GetUpdateMask().GetPaths()) == 0 {
		d.refuse("update_mask", "is required: %s, %s", pathLabels, pathRotationPeriod)
	}
	for _, path := range m.GetUpdateMask().GetPaths() {
		switch path {
		case pathLabels:
			labels := m.GetKey().GetLabels()
			if labels == nil {
				labels = map[string]string{}
			}
			r.Labels = &labels
		case pathRotationPeriod:
			period := d.duration("key.rotation_period", m.GetKey().GetRotationPeriod())
			r.RotationPeriod = &period
		default:
			d.refuse("update_mask", "%q cannot be changed: %s, %s can", clip(path, 100), pathLabels, pathRotationPeriod)
		}
	}
	return r, d.err()
}

// EncodeRotateKeyRequest makes the message.
func EncodeRotateKeyRequest(r *kms.RotateKeyRequest) *kmsv1.RotateKeyRequest {
	return &kmsv1.RotateKeyRequest{
		Name:             encodeName(r.Name),
		RequestId:        r.RequestID,
		RestrictPrevious: r.RestrictPrevious,
		Reason:           r.Reason,
	}
}

// DecodeRotateKeyRequest reads the request.
func DecodeRotateKeyRequest(m *kmsv1.RotateKeyRequest) (*kms.RotateKeyRequest, error) {
	d := decoder{}
	r := &kms.RotateKeyRequest{
		Name:             d.key("name", m.GetName()),
		RequestID:        m.GetRequestId(),
		RestrictPrevious: m.GetRestrictPrevious(),
		Reason:           m.GetReason(),
	}
	return r, d.err()
}

// maxRestricted is how much of a response the restricted versions may fill, in bytes: a
// key that is rotated each second has very many.
const maxRestricted = 2 << 20

// EncodeRotateKeyResponse makes the message. Of more restricted versions than a message
// holds it has the first ones.
func EncodeRotateKeyResponse(r *kms.RotateKeyResult) *kmsv1.RotateKeyResponse {
	m := &kmsv1.RotateKeyResponse{
		Version: EncodeKeyVersion(r.Version),
		Key:     EncodeKey(r.Key),
		Spread:  encodeSpread(&r.Spread),
	}
	left := maxRestricted
	for _, version := range r.Restricted {
		restricted := EncodeKeyVersion(version)
		if left -= proto.Size(restricted) + 4; left < 0 {
			break
		}
		m.Restricted = append(m.Restricted, restricted)
	}
	return m
}

// decodeVersionAndKey reads what a change of the primary version answers with.
func decodeVersionAndKey(m interface {
	GetVersion() *kmsv1.KeyVersion
	GetKey() *kmsv1.Key
}) (*kms.VersionInfo, *kms.KeyInfo, error) {
	version, err := DecodeKeyVersion(m.GetVersion())
	if err != nil {
		return nil, nil, err
	}
	key, err := DecodeKey(m.GetKey())
	return version, key, err
}

// DecodeRotateKeyResponse reads the result of a rotation.
func DecodeRotateKeyResponse(m *kmsv1.RotateKeyResponse) (*kms.RotateKeyResult, error) {
	version, key, err := decodeVersionAndKey(m)
	if err != nil {
		return nil, err
	}
	restricted, err := all(m.GetRestricted(), DecodeKeyVersion)
	if err != nil {
		return nil, err
	}
	return &kms.RotateKeyResult{
		Version: version, Key: key, Restricted: restricted, Spread: decodeSpread(m.GetSpread()),
	}, nil
}

// EncodeSetPrimaryKeyVersionRequest makes the message.
func EncodeSetPrimaryKeyVersionRequest(r *kms.SetPrimaryRequest) *kmsv1.SetPrimaryKeyVersionRequest {
	return &kmsv1.SetPrimaryKeyVersionRequest{Name: encodeName(r.Name), Reason: r.Reason}
}

// DecodeSetPrimaryKeyVersionRequest reads the request.
func DecodeSetPrimaryKeyVersionRequest(m *kmsv1.SetPrimaryKeyVersionRequest) (*kms.SetPrimaryRequest, error) {
	d := decoder{}
	r := &kms.SetPrimaryRequest{Name: d.version(m.GetName()), Reason: m.GetReason()}
	return r, d.err()
}

// EncodeSetPrimaryKeyVersionResponse makes the message.
func EncodeSetPrimaryKeyVersionResponse(r *kms.SetPrimaryResult) *kmsv1.SetPrimaryKeyVersionResponse {
	return &kmsv1.SetPrimaryKeyVersionResponse{
		Version: EncodeKeyVersion(r.Version), Key: EncodeKey(r.Key), Spread: encodeSpread(&r.Spread),
	}
}

// DecodeSetPrimaryKeyVersionResponse reads the version that is primary now, and its key.
func DecodeSetPrimaryKeyVersionResponse(m *kmsv1.SetPrimaryKeyVersionResponse) (*kms.SetPrimaryResult, error) {
	version, key, err := decodeVersionAndKey(m)
	if err != nil {
		return nil, err
	}
	return &kms.SetPrimaryResult{Version: version, Key: key, Spread: decodeSpread(m.GetSpread())}, nil
}

// encodeInt keeps what does not fit at the nearest number: it is out of range on the
// other side too.
func encodeInt(n int) int32 {
	return int32(min(max(n, math.MinInt32), math.MaxInt32))
}
