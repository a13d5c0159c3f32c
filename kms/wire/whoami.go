package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeWhoAmIResponse makes the message of a principal's name and method; nothing else
// of it is the caller's to know.
func EncodeWhoAmIResponse(p kms.Principal) *kmsv1.WhoAmIResponse {
	return &kmsv1.WhoAmIResponse{Principal: p.Name, Method: methods.encode(p.Method)}
}

// DecodeWhoAmIResponse reads a principal of which only name and method are known.
func DecodeWhoAmIResponse(m *kmsv1.WhoAmIResponse) kms.Principal {
	return kms.Principal{Name: m.GetPrincipal(), Method: methods.lenient(m.GetMethod())}
}
