package wire

import (
	"time"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// Diagnosis is what Diagnose answers: the findings of the service, and what the server
// that it is reached through adds.
type Diagnosis struct {
	ServerVersion string
	ServerTime    time.Time
	Principal     string // whom the server takes the caller for
	Findings      []kms.Finding
}

// EncodeDiagnoseResponse makes the message.
func EncodeDiagnoseResponse(d *Diagnosis) *kmsv1.DiagnoseResponse {
	return &kmsv1.DiagnoseResponse{
		ServerVersion: d.ServerVersion,
		ServerTime:    encodeTime(d.ServerTime),
		Principal:     d.Principal,
		Findings: each(d.Findings, func(f kms.Finding) *kmsv1.Finding {
			return &kmsv1.Finding{
				Area:     f.Area,
				Check:    f.Check,
				Severity: severities.encode(f.Severity),
				Detail:   f.Detail,
				Remedy:   f.Remedy,
			}
		}),
	}
}

// DecodeDiagnoseResponse reads the diagnosis.
func DecodeDiagnoseResponse(m *kmsv1.DiagnoseResponse) *Diagnosis {
	d := &Diagnosis{
		ServerVersion: m.GetServerVersion(),
		ServerTime:    decodeTime(m.GetServerTime()),
		Principal:     m.GetPrincipal(),
		Findings:      make([]kms.Finding, len(m.GetFindings())),
	}
	for i, f := range m.GetFindings() {
		d.Findings[i] = kms.Finding{
			Area:     f.GetArea(),
			Check:    f.GetCheck(),
			Severity: severities.lenient(f.GetSeverity()),
			Detail:   f.GetDetail(),
			Remedy:   f.GetRemedy(),
		}
	}
	return d
}
