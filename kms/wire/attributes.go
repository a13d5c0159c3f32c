package wire

import (
	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// encodeAttributes leaves unset what nothing is known of.
func encodeAttributes(a *kms.ObjectAttributes) *kmsv1.KeyAttributes {
	if a.Attributes == (hsm.Attributes{}) && a.Mechanisms == nil {
		return nil
	}
	return &kmsv1.KeyAttributes{
		Local:                encodeReport(a.Local),
		Sensitive:            encodeReport(a.Sensitive),
		AlwaysSensitive:      encodeReport(a.AlwaysSensitive),
		Extractable:          encodeReport(a.Extractable),
		NeverExtractable:     encodeReport(a.NeverExtractable),
		Modifiable:           encodeReport(a.Modifiable),
		Copyable:             encodeReport(a.Copyable),
		Private:              encodeReport(a.Private),
		KeyGenMechanism:      a.KeyGenMechanism,
		MechanismsRestricted: a.Mechanisms != nil,
		AllowedMechanisms:    a.Mechanisms,
	}
}

func decodeAttributes(m *kmsv1.KeyAttributes) kms.ObjectAttributes {
	if m == nil {
		return kms.ObjectAttributes{}
	}
	a := kms.ObjectAttributes{Attributes: hsm.Attributes{
		Local:            decodeReport(m.Local),
		Sensitive:        decodeReport(m.Sensitive),
		AlwaysSensitive:  decodeReport(m.AlwaysSensitive),
		Extractable:      decodeReport(m.Extractable),
		NeverExtractable: decodeReport(m.NeverExtractable),
		Modifiable:       decodeReport(m.Modifiable),
		Copyable:         decodeReport(m.Copyable),
		Private:          decodeReport(m.Private),
		KeyGenMechanism:  m.GetKeyGenMechanism(),
	}}
	if m.GetMechanismsRestricted() {
		a.Mechanisms = append([]string{}, m.GetAllowedMechanisms()...)
	}
	return a
}

// encodeReport is nil if the token does not say.
func encodeReport(r hsm.Report) *bool {
	if r == hsm.NotReported {
		return nil
	}
	value := r == hsm.ReportedTrue
	return &value
}

func decodeReport(value *bool) hsm.Report {
	if value == nil {
		return hsm.NotReported
	}
	return hsm.ReportOf(*value)
}

func encodeHostReport(r *kms.HostReport) *kmsv1.HostReport {
	if r == nil {
		return nil
	}
	return &kmsv1.HostReport{
		Attributes:        encodeAttributes(&r.Attributes),
		Usable:            r.Usable,
		Problem:           r.Problem,
		Module:            r.Module,
		Library:           r.Library,
		TokenLabel:        r.Label,
		TokenSerial:       r.Serial,
		TokenManufacturer: r.Manufacturer,
		TokenModel:        r.Model,
		TokenFirmware:     r.Firmware,
	}
}

func decodeHostReport(m *kmsv1.HostReport) *kms.HostReport {
	if m == nil {
		return nil
	}
	return &kms.HostReport{
		Attributes:   decodeAttributes(m.GetAttributes()),
		Usable:       m.GetUsable(),
		Problem:      m.GetProblem(),
		Module:       m.GetModule(),
		Library:      m.GetLibrary(),
		Label:        m.GetTokenLabel(),
		Serial:       m.GetTokenSerial(),
		Manufacturer: m.GetTokenManufacturer(),
		Model:        m.GetTokenModel(),
		Firmware:     m.GetTokenFirmware(),
	}
}
