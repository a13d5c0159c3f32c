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

// keyImport is what the flags of "key import" say.
type keyImport struct {
	key                    keyFlags
	job                    string
	in, wrapped, publicKey string
	create, makePrimary    bool
}

func newKeyImport(a *app) *cobra.Command {
	var f keyImport
	cmd := &cobra.Command{
		Use:   "import KEY --job JOB",
		Short: "Import a key that was made elsewhere",
		Long: `Import a key that was made elsewhere, as a version of KEY, or with --create as the first
version of a new key. The input is the bytes of an AES or HMAC key, just as they are, or
a private key in PEM.

The key is wrapped on this machine, for the public key of the import job, and unwrapped
inside the HSM; the service never sees it, and nothing is written here. The version shows
for ever that it was imported. There is no way back: no command exports a key.

With --wrapped the input is a key that was wrapped for the job already, by "kmsctl
import-job wrap", OpenSSL or another HSM, and this machine never sees the key. With
--public-key nothing but the private key that belongs to it is taken.

A version of an existing key stands beside the primary one: it opens what it has protected
elsewhere. With --make-primary new work uses it at once. A version of a STRICT key makes
no new ciphertext; rotate the key to use it.`,
		Example: `  kmsctl import-job create laptop
  kmsctl key import orders --job laptop --in aes-256.key --create
  kmsctl key import releases --job laptop --in key.pem --create --algorithm EC_SIGN_P256_SHA256
  openssl pkey -in encrypted.pem | kmsctl key import releases --job laptop --in - --make-primary
  kmsctl key import releases --job laptop --wrapped wrapped --public-key public.pem`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.job, "job", "", "import job, as JOB or NAMESPACE/JOB; required")
	flags.StringVar(&f.in, "in", "", "input file with the key, which is wrapped here; default or -: standard input")
	flags.StringVar(&f.wrapped, "wrapped", "", "instead of --in: file with the key as it was wrapped elsewhere, for the job; -: standard input")
	flags.StringVar(&f.publicKey, "public-key", "", "with --wrapped, of a key pair: PEM file with its public key; EC_SIGN_ED25519 needs it")
	flags.BoolVar(&f.create, "create", false, "make KEY, which must not exist, with the imported version")
	flags.BoolVar(&f.makePrimary, "make-primary", false, "make the version of an existing key primary")
	f.key.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("create", "make-primary")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		return a.importKey(ctx, conn, &f, args[0])
	})
	return cmd
}

// check refuses flags that do not go together.
func (f *keyImport) check(cmd *cobra.Command) error {
	if !f.create {
		for _, name := range keyFlagNames {
			if cmd.Flags().Changed(name) {
				return usagef("--%s is for new keys: leave it out, or make KEY with --create if it does not exist", name)
			}
		}
	}
	switch {
	case f.job == "":
		return usagef("--job is required")
	case cmd.Flags().Changed("in") && cmd.Flags().Changed("wrapped"):
		return usagef("--in is a key that is wrapped here, --wrapped one that was wrapped elsewhere: give one of them")
	case cmd.Flags().Changed("wrapped") && f.wrapped == "": // an unset variable of a script: not standard input
		return usagef("--wrapped: want a file, or - for standard input")
	case cmd.Flags().Changed("public-key") && f.wrapped == "":
		return usagef("--public-key belongs to --wrapped: a private key that is read here tells its public key itself")
	case cmd.Flags().Changed("public-key") && f.publicKey == "":
		return usagef("--public-key: want a file")
	}
	return nil
}

func (a *app) importKey(ctx context.Context, conn *connection, f *keyImport, arg string) error {
	name, err := parseKey(arg, conn.namespace)
	if err != nil {
		return err
	}
	jobName, err := parseImportJob(f.job, name.Namespace())
	if err != nil {
		return err
	}
	request := &kmsv1.ImportKeyVersionRequest{
		Parent: name.String(), ImportJob: jobName.String(), MakePrimary: f.makePrimary, RequestId: uuid.NewString(),
	}
	var key *kmsv1.Key
	if f.create {
		if request.Key, err = f.key.message(); err != nil {
			return err
		}
		key = request.GetKey()
	} else if key, err = conn.Keys().GetKey(ctx, &kmsv1.GetKeyRequest{Name: name.String()}); err != nil {
		return err
	}
	job, err := conn.api.GetImportJob(ctx, kms.Principal{}, jobName)
	if err != nil {
		return err
	}
	if err := refuseExpired(job); err != nil {
		return err
	}
	algorithm, err := algorithmOf(key)
	if err != nil {
		return err
	}
	prepare := a.wrapInput
	if f.wrapped != "" {
		prepare = a.readWrapped
	}
	if err := prepare(ctx, f, job, algorithm, request); err != nil {
		return err
	}
	imported, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.ImportKeyVersionResponse, error) {
		return conn.Imports().ImportKeyVersion(ctx, request)
	})
	if err != nil {
		return err
	}
	return showOne(a, imported, importedRow)
}

// refuseExpired is an error if nothing is imported by the job any more.
func refuseExpired(job *kms.ImportJob) error {
	if job.State != kms.ImportJobExpired {
		return nil
	}
	return &advisedError{
		fmt.Errorf("%s is EXPIRED since %s: nothing is imported by it any more", job.Name, job.ExpireTime.UTC().Format(time.RFC3339)),
		`make another with "kmsctl import-job create".`,
	}
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
func (a *app) wrapInput(ctx context.Context, f *keyImport, job *kms.ImportJob, algorithm kms.Algorithm,
	request *kmsv1.ImportKeyVersionRequest,
) error {
	src, _, closeIn, err := a.openIn(ctx, f.in)
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
