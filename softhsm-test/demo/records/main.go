// Command records is the application of the demonstration: it keeps records in a file,
// each encrypted under a data key of its own that only kmsd can unwrap.
//
//	records make  RECORDS.csv          collect 10,000 records from the text of the Go distribution
//	records seal  RECORDS.csv SEALED   encrypt each under a data key of its own
//	records open  RECORDS.csv SEALED   unwrap all data keys in batches, decrypt, compare with the CSV
//
// Encrypted records are lines of two base64 fields: the wrapped data key, and nonce,
// ciphertext and tag of AES-256-GCM, to which the record's number is bound.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// batch is how many data keys one request makes or unwraps.
const batch = 1024

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "records:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "make":
		return collect(args[1])
	case len(args) == 3 && args[0] == "seal":
		return withService(ctx, func(v *vault) error { return v.seal(ctx, args[1], args[2]) })
	case len(args) == 3 && args[0] == "open":
		return withService(ctx, func(v *vault) error { return v.open(ctx, args[1], args[2]) })
	default:
		return fmt.Errorf("usage: records make CSV | seal CSV SEALED | open CSV SEALED")
	}
}

// withService connects to the service that $KEYHOLT_PROFILE names.
func withService(ctx context.Context, do func(*vault) error) error {
	profile, err := client.LoadProfile(os.Getenv("KEYHOLT_PROFILE"))
	if err != nil {
		return err
	}
	service, err := client.Dial(ctx, profile)
	if err != nil {
		return err
	}
	defer func() { _ = service.Close() }()
	key, err := kms.NewKeyName(profile.DefaultNamespace(), "records")
	if err != nil {
		return err
	}
	return do(&vault{api: service.API(), key: key})
}

// vault is the application's use of the service: one key, many data keys.
type vault struct {
	api kms.API
	key kms.KeyName
}

// binding is what the data keys are bound to: the service logs it with every use.
func binding() kms.Binding {
	return kms.Binding{Context: map[string]string{"table": "records"}}
}

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
