package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// maxJobFile is the most bytes of a file that describes an import job.
const maxJobFile = 64 << 10

func newImportJobWrap(a *app) *cobra.Command {
	var (
		f         dataFlags
		algorithm string
	)
	cmd := &cobra.Command{
		Use:   "wrap FILE",
		Short: "Wrap a key for an import job, without a connection",
		Long: `Wrap a key for an import job on a machine that has no connection to the service. FILE is
what "kmsctl import-job describe JOB -o json" has written. The input is the bytes of an
AES or HMAC key, just as they are, or a private key in PEM; the output is what "kmsctl key
import --wrapped" takes, and is of no use to anybody but the HSM.

FILE says for whose eyes the key is: compare the SHA-256 of the public key, which is shown
in the end, with the one that "kmsctl import-job describe JOB" shows where the service is.`,
		Example: `  kmsctl import-job describe laptop -o json > laptop.json
  kmsctl import-job wrap laptop.json --in key.pem --algorithm EC_SIGN_P256_SHA256 --out wrapped
  kmsctl key import releases --job laptop --wrapped wrapped --create --algorithm EC_SIGN_P256_SHA256`,
		Args: between(1, 1),
	}
	f.addFiles(cmd)
	cmd.Flags().StringVar(&algorithm, "algorithm", kms.AlgorithmAES256.String(), "algorithm of the key that it is to be imported into")
	completeValues(cmd, "algorithm", names(kms.Algorithms()))
	cmd.RunE = a.local(func(ctx context.Context, args []string) error {
		if err := a.refuseOutput(); err != nil {
			return err
		}
		if err := a.refuseTerminal(f.out); err != nil {
			return err
		}
		n, err := enumValue("algorithm", algorithm, "ALGORITHM_", kmsv1.Algorithm_value)
		if err != nil {
			return err
		}
		chosen, err := algorithmOf(&kmsv1.Key{Algorithm: kmsv1.Algorithm(n)})
		if err != nil {
			return err
		}
		job, err := readJob(args[0])
		if err != nil {
			return err
		}
		if err := a.transfer(ctx, &f, "wrapping", func(dst io.Writer, src io.Reader) error {
			material, err := readKeyMaterial(src, chosen)
			if err != nil {
				return err
			}
			defer material.wipe()
			wrapped, err := job.Wrap(material.key)
			if err != nil {
				return err
			}
			_, err = dst.Write(wrapped)
			return err
		}); err != nil {
			return err
		}
		a.sayf("kmsctl: wrapped for %s, which imports until %s; its public key has %s",
			job.Name, job.ExpireTime.UTC().Format(time.RFC3339), sha256Text(job.PublicKey))
		return nil
	})
	return cmd
}

// readJob reads an import job as "import-job describe -o json" writes it.
func readJob(path string) (*kms.ImportJob, error) {
	text, err := readFile(path, maxJobFile, "it describes no import job")
	if err != nil {
		return nil, err
	}
	var message kmsv1.ImportJob
	if err := protojson.Unmarshal(text, &message); err != nil {
		return nil, notAJob(path, err)
	}
	job, err := wire.DecodeImportJob(&message)
	if err == nil && (job.Name.IsZero() || !job.Method.Valid()) {
		err = errors.New("its name or method is missing")
	}
	if err != nil {
		return nil, notAJob(path, err)
	}
	return job, refuseExpired(job)
}

func notAJob(path string, err error) error {
	why := strings.ReplaceAll(err.Error(), "\u00a0", " ") // by which protobuf keeps its errors from being relied on
	return &advisedError{
		fmt.Errorf("%s describes no import job: %s", path, why),
		`write it anew with "kmsctl import-job describe JOB -o json".`,
	}
}
