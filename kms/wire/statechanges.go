package wire

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeEnableKeyVersionRequest makes the message.
func EncodeEnableKeyVersionRequest(name kms.VersionName, reason string) *kmsv1.EnableKeyVersionRequest {
	return &kmsv1.EnableKeyVersionRequest{Name: encodeName(name), Reason: reason}
}

// DecodeEnableKeyVersionRequest returns the name of the version, and the reason.
func DecodeEnableKeyVersionRequest(m *kmsv1.EnableKeyVersionRequest) (name kms.VersionName, reason string, err error) {
	d := decoder{}
	name = d.version(m.GetName())
	return name, m.GetReason(), d.err()
}

// EncodeEnableKeyVersionResponse makes the message.
func EncodeEnableKeyVersionResponse(c *kms.StateChange) *kmsv1.EnableKeyVersionResponse {
	return &kmsv1.EnableKeyVersionResponse{
		Version:     EncodeKeyVersion(c.Version),
		TokenSwitch: tokenSwitches.encode(c.Switch),
		Spread:      encodeSpread(&c.Spread),
	}
}

// DecodeEnableKeyVersionResponse reads the change.
func DecodeEnableKeyVersionResponse(m *kmsv1.EnableKeyVersionResponse) (*kms.StateChange, error) {
	return decodeStateChange(m)
}

// EncodeDisableKeyVersionRequest makes the message.
func EncodeDisableKeyVersionRequest(name kms.VersionName, reason string) *kmsv1.DisableKeyVersionRequest {
	return &kmsv1.DisableKeyVersionRequest{Name: encodeName(name), Reason: reason}
}

// DecodeDisableKeyVersionRequest returns the name of the version, and the reason.
func DecodeDisableKeyVersionRequest(m *kmsv1.DisableKeyVersionRequest) (name kms.VersionName, reason string, err error) {
	d := decoder{}
	name = d.version(m.GetName())
	return name, m.GetReason(), d.err()
}

// EncodeDisableKeyVersionResponse makes the message.
func EncodeDisableKeyVersionResponse(c *kms.StateChange) *kmsv1.DisableKeyVersionResponse {
	return &kmsv1.DisableKeyVersionResponse{
		Version:     EncodeKeyVersion(c.Version),
		TokenSwitch: tokenSwitches.encode(c.Switch),
		Spread:      encodeSpread(&c.Spread),
	}
}

// DecodeDisableKeyVersionResponse reads the change.
func DecodeDisableKeyVersionResponse(m *kmsv1.DisableKeyVersionResponse) (*kms.StateChange, error) {
	return decodeStateChange(m)
}

// EncodeRestrictKeyVersionRequest makes the message.
func EncodeRestrictKeyVersionRequest(name kms.VersionName, reason string) *kmsv1.RestrictKeyVersionRequest {
	return &kmsv1.RestrictKeyVersionRequest{Name: encodeName(name), Reason: reason}
}

// DecodeRestrictKeyVersionRequest returns the name of the version, and the reason.
func DecodeRestrictKeyVersionRequest(m *kmsv1.RestrictKeyVersionRequest) (name kms.VersionName, reason string, err error) {
	d := decoder{}
	name = d.version(m.GetName())
	return name, m.GetReason(), d.err()
}

// EncodeRestrictKeyVersionResponse makes the message.
func EncodeRestrictKeyVersionResponse(c *kms.StateChange) *kmsv1.RestrictKeyVersionResponse {
	return &kmsv1.RestrictKeyVersionResponse{
		Version:     EncodeKeyVersion(c.Version),
		TokenSwitch: tokenSwitches.encode(c.Switch),
		Spread:      encodeSpread(&c.Spread),
	}
}

// DecodeRestrictKeyVersionResponse reads the change.
func DecodeRestrictKeyVersionResponse(m *kmsv1.RestrictKeyVersionResponse) (*kms.StateChange, error) {
	return decodeStateChange(m)
}

// EncodeRestoreKeyVersionRequest makes the message.
func EncodeRestoreKeyVersionRequest(name kms.VersionName, reason string) *kmsv1.RestoreKeyVersionRequest {
	return &kmsv1.RestoreKeyVersionRequest{Name: encodeName(name), Reason: reason}
}

// DecodeRestoreKeyVersionRequest returns the name of the version, and the reason.
func DecodeRestoreKeyVersionRequest(m *kmsv1.RestoreKeyVersionRequest) (name kms.VersionName, reason string, err error) {
	d := decoder{}
	name = d.version(m.GetName())
	return name, m.GetReason(), d.err()
}

// EncodeRestoreKeyVersionResponse makes the message.
func EncodeRestoreKeyVersionResponse(c *kms.StateChange) *kmsv1.RestoreKeyVersionResponse {
	return &kmsv1.RestoreKeyVersionResponse{
		Version:     EncodeKeyVersion(c.Version),
		TokenSwitch: tokenSwitches.encode(c.Switch),
		Spread:      encodeSpread(&c.Spread),
	}
}

// DecodeRestoreKeyVersionResponse reads the change.
func DecodeRestoreKeyVersionResponse(m *kmsv1.RestoreKeyVersionResponse) (*kms.StateChange, error) {
	return decodeStateChange(m)
}

// EncodeRevokeKeyVersionRequest makes the message.
func EncodeRevokeKeyVersionRequest(r *kms.RevokeRequest) *kmsv1.RevokeKeyVersionRequest {
	return &kmsv1.RevokeKeyVersionRequest{
		Name:             encodeName(r.Name),
		Reason:           r.Reason,
		DataLossAccepted: r.DataLossAccepted,
	}
}

// DecodeRevokeKeyVersionRequest reads the request.
func DecodeRevokeKeyVersionRequest(m *kmsv1.RevokeKeyVersionRequest) (*kms.RevokeRequest, error) {
	d := decoder{}
	r := &kms.RevokeRequest{
		Name:             d.version(m.GetName()),
		Reason:           m.GetReason(),
		DataLossAccepted: m.GetDataLossAccepted(),
	}
	return r, d.err()
}

// EncodeRevokeKeyVersionResponse makes the message.
func EncodeRevokeKeyVersionResponse(c *kms.StateChange) *kmsv1.RevokeKeyVersionResponse {
	return &kmsv1.RevokeKeyVersionResponse{
		Version:     EncodeKeyVersion(c.Version),
		TokenSwitch: tokenSwitches.encode(c.Switch),
		Spread:      encodeSpread(&c.Spread),
	}
}

// DecodeRevokeKeyVersionResponse reads the change.
func DecodeRevokeKeyVersionResponse(m *kmsv1.RevokeKeyVersionResponse) (*kms.StateChange, error) {
	return decodeStateChange(m)
}

// EncodeScheduleKeyVersionDestructionRequest makes the message.
func EncodeScheduleKeyVersionDestructionRequest(r *kms.DestructionRequest,
) *kmsv1.ScheduleKeyVersionDestructionRequest {
	return &kmsv1.ScheduleKeyVersionDestructionRequest{
		Name:             encodeName(r.Name),
		Reason:           r.Reason,
		Window:           encodeDuration(r.Window),
		DataLossAccepted: r.DataLossAccepted,
	}
}

// DecodeScheduleKeyVersionDestructionRequest reads the request.
func DecodeScheduleKeyVersionDestructionRequest(m *kmsv1.ScheduleKeyVersionDestructionRequest,
) (*kms.DestructionRequest, error) {
	d := decoder{}
	r := &kms.DestructionRequest{
		Name:             d.version(m.GetName()),
		Reason:           m.GetReason(),
		Window:           d.window(m.GetWindow()),
		DataLossAccepted: m.GetDataLossAccepted(),
	}
	return r, d.err()
}

// EncodeScheduleKeyVersionDestructionResponse makes the message.
func EncodeScheduleKeyVersionDestructionResponse(c *kms.StateChange) *kmsv1.ScheduleKeyVersionDestructionResponse {
	return &kmsv1.ScheduleKeyVersionDestructionResponse{
		Version:     EncodeKeyVersion(c.Version),
		TokenSwitch: tokenSwitches.encode(c.Switch),
		Spread:      encodeSpread(&c.Spread),
	}
}

// DecodeScheduleKeyVersionDestructionResponse reads the change.
func DecodeScheduleKeyVersionDestructionResponse(m *kmsv1.ScheduleKeyVersionDestructionResponse) (*kms.StateChange, error) {
	return decodeStateChange(m)
}

// stateChange is a response of any change of state.
type stateChange interface {
	GetVersion() *kmsv1.KeyVersion
	GetTokenSwitch() kmsv1.TokenSwitch
	GetSpread() *kmsv1.Spread
}

func decodeStateChange(m stateChange) (*kms.StateChange, error) {
	version, err := DecodeKeyVersion(m.GetVersion())
	if err != nil {
		return nil, err
	}
	return &kms.StateChange{
		Version: version, Switch: tokenSwitches.lenient(m.GetTokenSwitch()), Spread: decodeSpread(m.GetSpread()),
	}, nil
}

// window reads the time until a destruction. Unset is the configured default, which zero
// means in the domain; so a zero that was set is a violation.
func (d *decoder) window(m *durationpb.Duration) time.Duration {
	window := d.duration("window", m)
	if m != nil && window <= 0 {
		d.refuse("window", "is not positive")
	}
	return window
}

// encodeSpread is unset for a spread that says nothing.
func encodeSpread(s *kms.Spread) *kmsv1.Spread {
	if s.Revision == 0 && s.Took == 0 && len(s.Acknowledged)+len(s.Expired) == 0 {
		return nil
	}
	return &kmsv1.Spread{
		Revision:     uint64(s.Revision),
		Acknowledged: s.Acknowledged,
		Expired:      s.Expired,
		Took:         encodeDuration(s.Took),
	}
}

func decodeSpread(m *kmsv1.Spread) kms.Spread {
	return kms.Spread{
		Revision:     kms.Revision(m.GetRevision()),
		Acknowledged: m.GetAcknowledged(),
		Expired:      m.GetExpired(),
		Took:         m.GetTook().AsDuration(),
	}
}
