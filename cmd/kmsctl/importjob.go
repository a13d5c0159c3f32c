package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newImportJob(a *app) *cobra.Command {
	return group("import-job", "Manage the jobs by which keys are imported",
		newImportJobCreate(a),
		newImportJobDescribe(a),
		newImportJobList(a),
		newImportJobWrap(a),
	)
}

func newImportJobCreate(a *app) *cobra.Command {
	var (
		method string
		ttl    time.Duration
	)
	cmd := &cobra.Command{
		Use:   "create JOB",
		Short: "Create an import job: an RSA key in the HSM, under which keys are wrapped",
		Long: `Create an import job. Its RSA key is made inside the HSM and destroyed when the job
expires. "kmsctl key import" wraps a key for the job's public key, "kmsctl import-job wrap" does so
without a connection, and other programs can, too: see docs/import.md. A job of the same name that
is expired is replaced.`,
		Example: `  kmsctl import-job create laptop
  kmsctl import-job create shop/migration --method RSA_OAEP_4096_SHA256_AES_256 --ttl 24h`,
		Args: between(1, 1),
	}
	flags := cmd.Flags()
	flags.StringVar(&method, "method", "",
		"how keys are wrapped, such as RSA_OAEP_3072_SHA256_AES_256 (default: RSA-OAEP with SHA-256 and 3072 bits, or what the HSM has instead)")
	flags.DurationVar(&ttl, "ttl", 0, "how long the job lasts, from 1s to 720h (default 72h)")
	completeValues(cmd, "method", names(kms.ImportMethods()))
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		name, err := parseImportJob(args[0], conn.namespace)
		if err != nil {
			return err
		}
		request := &kmsv1.CreateImportJobRequest{Parent: name.Namespace().String(), ImportJobId: name.ID()}
		if method != "" {
			n, err := enumValue("method", method, "IMPORT_METHOD_", kmsv1.ImportMethod_value)
			if err != nil {
				return err
			}
			request.Method = kmsv1.ImportMethod(n)
		}
		if cmd.Flags().Changed("ttl") {
			request.Ttl = durationpb.New(ttl)
		}
		job, err := conn.Imports().CreateImportJob(ctx, request)
		if err != nil {
			return err
		}
		return showOne(a, job, importJobRow)
	})
	return cmd
}

func newImportJobDescribe(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "describe JOB",
		Short: "Show an import job",
		Args:  between(1, 1),
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseImportJob(args[0], conn.namespace)
			if err != nil {
				return err
			}
			job, err := conn.Imports().GetImportJob(ctx, &kmsv1.GetImportJobRequest{Name: name.String()})
			if err != nil {
				return err
			}
			return showOne(a, job, importJobRow)
		}),
	}
}

func newImportJobList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the import jobs of the namespace",
		Args:  between(0, 0),
		RunE: a.connected(func(ctx context.Context, conn *connection, _ []string) error {
			jobs, err := pages(func(token string) ([]*kmsv1.ImportJob, string, error) {
				r, err := conn.Imports().ListImportJobs(ctx, &kmsv1.ListImportJobsRequest{
					Parent: conn.namespace.String(), PageSize: pageSize, PageToken: token,
				})
				return r.GetImportJobs(), r.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			return showList(a, jobs, importJobRow)
		}),
	}
}

// parseImportJob parses the name of an import job: JOB, NAMESPACE/JOB or the resource name.
func parseImportJob(arg string, namespace kms.NamespaceName) (kms.ImportJobName, error) {
	full := arg
	switch segments := strings.Split(arg, "/"); len(segments) {
	case 1:
		full = namespace.String() + "/importJobs/" + arg
	case 2:
		full = "namespaces/" + segments[0] + "/importJobs/" + segments[1]
	}
	name, err := kms.ParseImportJobName(full)
	if err != nil {
		return kms.ImportJobName{}, usagef("import job %q: %v", arg, err)
	}
	return name, nil
}

// fingerprint is the SHA-256 of a public key's DER, as two people compare it.
func fingerprint(der []byte) string {
	if len(der) == 0 {
		return ""
	}
	return sha256Text(der) + " (-o json shows all of it)"
}

func sha256Text(der []byte) string { return fmt.Sprintf("SHA-256 %x", sha256.Sum256(der)) }

func importJobRow(j *kmsv1.ImportJob) []column {
	return []column{
		{name: "name", value: lastSegment(j.GetName())},
		{name: "resource", value: j.GetName(), detail: true},
		{name: "method", value: strings.TrimPrefix(j.GetMethod().String(), "IMPORT_METHOD_")},
		{name: "state", value: strings.TrimPrefix(j.GetState().String(), "IMPORT_JOB_STATE_")},
		{name: "created", value: timeText(j.GetCreateTime())},
		{name: "expires", value: timeText(j.GetExpireTime())},
		{name: "uid", value: j.GetUid(), detail: true},
		{name: "attributes", value: attributesText(j.GetAttributes()), detail: true},
		{name: "public key", value: fingerprint(j.GetPublicKey()), detail: true},
		{name: "etag", value: j.GetEtag(), detail: true},
	}
}
