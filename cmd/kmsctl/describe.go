package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newKeyDescribe(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "describe KEY/VERSION",
		Short: "Show a key version, and what is reported of its HSM object",
		Long: `Show a key version: state, usage, where its key comes from, the attributes that its
HSM object had when it was made, and those that it has now. The last, and which token it
is, are what the service's host says that the HSM says: a report, and no proof.`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeVersion,
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseVersion(args[0], conn.namespace)
			if err != nil {
				return err
			}
			version, err := conn.Keys().GetKeyVersion(ctx, &kmsv1.GetKeyVersionRequest{Name: name.String()})
			if err != nil {
				return err
			}
			return showOne(a, version, describeRow)
		}),
	}
}

func describeRow(v *kmsv1.KeyVersion) []column {
	return append(versionRow(v), hostRow(v.GetHostReport())...)
}

// hostRow is what the host reports; the first column labels it.
func hostRow(r *kmsv1.HostReport) []column {
	if r == nil {
		return nil
	}
	usable := "off"
	if r.GetUsable() {
		usable = "on"
	}
	if r.GetProblem() != "" {
		usable = ""
	}
	return []column{
		{name: "host reports", value: "(what the service's host says; no proof)"},
		{name: "  problem", value: r.GetProblem()},
		{name: "  attributes", value: attributesText(r.GetAttributes())},
		{name: "  usage", value: usable},
		{name: "  module", value: r.GetModule()},
		{name: "  library", value: r.GetLibrary()},
		{name: "  token", value: r.GetTokenLabel()},
		{name: "  serial", value: r.GetTokenSerial()},
		{name: "  manufacturer", value: r.GetTokenManufacturer()},
		{name: "  model", value: r.GetTokenModel()},
		{name: "  firmware", value: r.GetTokenFirmware()},
	}
}

// originText says where the key of a version comes from.
func originText(v *kmsv1.KeyVersion) string {
	if v.GetImported() {
		return "IMPORTED"
	}
	return "HSM"
}

// attributesText is the attributes in the words of PKCS #11, without CKA_.
func attributesText(a *kmsv1.KeyAttributes) string {
	if a == nil {
		return ""
	}
	var parts []string
	for _, attribute := range []struct {
		name  string
		value *bool
	}{
		{"LOCAL", a.Local},
		{"SENSITIVE", a.Sensitive},
		{"ALWAYS_SENSITIVE", a.AlwaysSensitive},
		{"EXTRACTABLE", a.Extractable},
		{"NEVER_EXTRACTABLE", a.NeverExtractable},
		{"MODIFIABLE", a.Modifiable},
		{"COPYABLE", a.Copyable},
		{"PRIVATE", a.Private},
	} {
		switch {
		case attribute.value == nil:
			parts = append(parts, attribute.name+"=unknown")
		case *attribute.value:
			parts = append(parts, attribute.name+"=true")
		default:
			parts = append(parts, attribute.name+"=false")
		}
	}
	if made := a.GetKeyGenMechanism(); made != "" {
		parts = append(parts, "KEY_GEN_MECHANISM="+made)
	}
	if a.GetMechanismsRestricted() {
		parts = append(parts, "ALLOWED_MECHANISMS="+strings.Join(a.GetAllowedMechanisms(), "+"))
	}
	return strings.Join(parts, " ")
}
