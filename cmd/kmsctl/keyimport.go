package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newKeyImport(a *app) *cobra.Command {
	var (
		f           keyFlags
		job, in     string
		create      bool
		makePrimary bool
	)
	cmd := &cobra.Command{
		Use:   "import KEY --job JOB",
		Short: "Import a key that was made elsewhere",
		Long: `Import a key that was made elsewhere, as a version of KEY, or with --create as the first
version of a new key. The input is the bytes of an AES or HMAC key, just as they are, or
a private key in PEM.

The key is wrapped on this machine, for the public key of the import job, and unwrapped
inside the HSM; the service never sees it, and nothing is written here. The version shows
for ever that it was imported. There is no way back: no command exports a key.

A version of an existing key stands beside the primary one: it opens what it has protected
elsewhere. With --make-primary new work uses it at once. A version of a STRICT key makes
no new ciphertext; rotate the key to use it.`,
		Example: `  kmsctl import-job create laptop
  kmsctl key import orders --job laptop --in aes-256.key --create
  kmsctl key import releases --job laptop --in key.pem --create --algorithm EC_SIGN_P256_SHA256
  openssl pkey -in encrypted.pem | kmsctl key import releases --job laptop --in - --make-primary`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	flags := cmd.Flags()
	flags.StringVar(&job, "job", "", "import job, as JOB or NAMESPACE/JOB; required")
	flags.StringVar(&in, "in", "", "input file; default or -: standard input")
	flags.BoolVar(&create, "create", false, "make KEY, which must not exist, with the imported version")
	flags.BoolVar(&makePrimary, "make-primary", false, "make the version of an existing key primary")
	f.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("create", "make-primary")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		request := &kmsv1.ImportKeyVersionRequest{MakePrimary: makePrimary, RequestId: uuid.NewString()}
		if !create {
			for _, name := range keyFlagNames {
				if cmd.Flags().Changed(name) {
					return usagef("--%s is for new keys: give --create, or leave it out", name)
				}
			}
		}
		name, err := parseKey(args[0], conn.namespace)
		if err != nil {
			return err
		}
		if job == "" {
			return usagef("--job is required")
		}
		jobName, err := parseImportJob(job, name.Namespace())
		if err != nil {
			return err
		}
		request.Parent, request.ImportJob = name.String(), jobName.String()
		var key *kmsv1.Key
		if create {
			if request.Key, err = f.message(); err != nil {
				return err
			}
			key = request.GetKey()
		} else if key, err = conn.Keys().GetKey(ctx, &kmsv1.GetKeyRequest{Name: name.String()}); err != nil {
			return err
		}
		found, err := conn.api.GetImportJob(ctx, kms.Principal{}, jobName)
		if err != nil {
			return err
		}
		if found.State == kms.ImportJobExpired {
			return &advisedError{
				fmt.Errorf("%s is EXPIRED since %s: nothing is imported by it any more", jobName, found.ExpireTime.UTC().Format(time.RFC3339)),
				`make another with "kmsctl import-job create".`,
			}
		}
		algorithm, err := algorithmOf(key)
		if err != nil {
			return err
		}
		if err := a.wrapInput(ctx, in, found, algorithm, request); err != nil {
			return err
		}
		imported, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.ImportKeyVersionResponse, error) {
			return conn.Imports().ImportKeyVersion(ctx, request)
		})
		if err != nil {
			return err
		}
		return showOne(a, imported, importedRow)
	})
	return cmd
}

// algorithmOf is the algorithm of a key to be made, or of one that there is.
func algorithmOf(m *kmsv1.Key) (kms.Algorithm, error) {
	key, err := wire.DecodeKey(m)
	switch {
	case err != nil:
		return 0, err
	case key.Algorithm == 0 && key.Purpose == 0:
		key.Purpose = kms.PurposeEncryptDecrypt
	}
	if key.Algorithm == 0 {
		key.Algorithm = key.Purpose.DefaultAlgorithm()
	}
	if !key.Algorithm.Valid() {
		return 0, usagef("--algorithm is required with this --purpose")
	}
	return key.Algorithm, nil
}

// wrapInput reads the key and wraps it for the job, into the request.
func (a *app) wrapInput(ctx context.Context, in string, job *kms.ImportJob, algorithm kms.Algorithm,
	request *kmsv1.ImportKeyVersionRequest,
) error {
	src, _, closeIn, err := a.openIn(ctx, in)
	if err != nil {
		return err
	}
	defer closeIn()
	material, err := readKeyMaterial(src, algorithm)
	if err != nil {
		return err
	}
	defer material.wipe()
	request.PublicKey = material.public
	request.WrappedKey, err = job.Wrap(material.key)
	return err
}

func importedRow(r *kmsv1.ImportKeyVersionResponse) []column {
	rows := versionRow(r.GetVersion())
	key := strings.TrimPrefix(r.GetKey().GetName(), "namespaces/")
	return append([]column{{name: "key", value: strings.Replace(key, "/keys/", "/", 1)}}, append(rows,
		column{name: "replicas", value: spreadText(r.GetSpread())})...)
}
