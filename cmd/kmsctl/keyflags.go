package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// keyFlags say what a key to be made is.
type keyFlags struct {
	purpose, algorithm, profile string
	labels                      []string
	period                      time.Duration
}

// keyFlagNames are the flags that add defines.
var keyFlagNames = []string{"purpose", "algorithm", "profile", "label", "rotation-period"}

func (f *keyFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.purpose, "purpose", "",
		"what the key is for: ENCRYPT_DECRYPT, ASYMMETRIC_SIGN, ASYMMETRIC_DECRYPT or MAC (default that of the algorithm, else ENCRYPT_DECRYPT)")
	flags.StringVar(&f.algorithm, "algorithm", "",
		"algorithm of the key, such as EC_SIGN_P256_SHA256 (default that of the purpose: AES_256, EC_SIGN_P256_SHA256, HMAC_SHA256)")
	flags.StringVar(&f.profile, "profile", "", "protection profile of ENCRYPT_DECRYPT keys: DERIVED (the default; fast, a key per item derived "+
		"in the HSM) or STRICT (each item inside the HSM)")
	completeValues(cmd, "purpose", names(kms.Purposes()))
	completeValues(cmd, "algorithm", names(kms.Algorithms()))
	completeValues(cmd, "profile", []string{kms.ProfileDerived.String(), kms.ProfileStrict.String()})
	flags.StringArrayVar(&f.labels, "label", nil, "label, as KEY=VALUE; may be repeated")
	flags.DurationVar(&f.period, "rotation-period", 0, rotationPeriodHelp)
}

// message is the key without its name.
func (f *keyFlags) message() (*kmsv1.Key, error) {
	key := &kmsv1.Key{}
	var err error
	if key.Labels, err = parsePairs("label", f.labels); err != nil {
		return nil, err
	}
	if key.RotationPeriod, err = rotationPeriod(f.period); err != nil {
		return nil, err
	}
	for _, field := range []struct {
		flag, value, prefix string
		names               map[string]int32
		set                 func(int32)
	}{
		{"purpose", f.purpose, "PURPOSE_", kmsv1.Purpose_value,
			func(n int32) { key.Purpose = kmsv1.Purpose(n) }},
		{"algorithm", f.algorithm, "ALGORITHM_", kmsv1.Algorithm_value,
			func(n int32) { key.Algorithm = kmsv1.Algorithm(n) }},
		{"profile", f.profile, "PROTECTION_PROFILE_", kmsv1.ProtectionProfile_value,
			func(n int32) { key.ProtectionProfile = kmsv1.ProtectionProfile(n) }},
	} {
		if field.value == "" {
			continue // the service's default
		}
		n, err := enumValue(field.flag, field.value, field.prefix, field.names)
		if err != nil {
			return nil, err
		}
		field.set(n)
	}
	return key, nil
}
