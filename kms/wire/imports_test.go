package wire

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func anImportJobName() kms.ImportJobName { return must(kms.NewImportJobName(aNamespace(), "laptop")) }

func anImportJob() *kms.ImportJob {
	return &kms.ImportJob{
		Name: anImportJobName(), UID: hsm.UID{1, 2, 3, 0xff}, Method: kms.ImportRSA4096SHA256, State: kms.ImportJobActive,
		CreateTime: aTime(1), ExpireTime: aTime(2), PublicKey: []byte("DER"),
		Attributes: kms.ObjectAttributes{
			Attributes: hsm.Attributes{Local: hsm.ReportedTrue, Extractable: hsm.ReportedFalse}, Mechanisms: []string{"CKM_RSA_PKCS_OAEP"},
		},
		Revision: 9,
	}
}

func TestImportRoundTrips(t *testing.T) {
	page := kms.Page{Size: 12, Token: "next"}
	id := "b9d4b3f8-5f0e-4b1c-8c43-0d0c6f2f3b11"
	existing := &kms.ImportKeyVersionRequest{
		Key: aKey(), Job: anImportJobName(), WrappedKey: []byte("wrapped"), PublicKey: []byte("public"), MakePrimary: true, RequestID: id,
	}
	created := *existing
	created.New = &kms.NewKey{
		Purpose: kms.PurposeEncryptDecrypt, Algorithm: kms.AlgorithmAES256, Profile: kms.ProfileDerived,
		Labels: map[string]string{"a": "b"}, RotationPeriod: time.Hour,
	}
	for name, run := range map[string]func(*testing.T, bool){
		"ImportJob": trip(anImportJob(), EncodeImportJob, DecodeImportJob),
		"CreateImportJobRequest": trip(&kms.CreateImportJobRequest{
			Name: anImportJobName(), Method: kms.ImportRSA3072SHA1, TTL: time.Hour, RequestID: id,
		}, EncodeCreateImportJobRequest, DecodeCreateImportJobRequest),
		"GetImportJobRequest":   trip(anImportJobName(), EncodeGetImportJobRequest, DecodeGetImportJobRequest),
		"ListImportJobsRequest": two(aNamespace(), page, EncodeListImportJobsRequest, DecodeListImportJobsRequest),
		"ListImportJobsResponse": trip(&kms.ImportJobList{Jobs: []*kms.ImportJob{anImportJob()}, NextToken: "next"},
			EncodeListImportJobsResponse, DecodeListImportJobsResponse),
		"ImportKeyVersionRequest": trip(&created, EncodeImportKeyVersionRequest, DecodeImportKeyVersionRequest),
		"ImportKeyVersionResponse": trip(&kms.ImportKeyVersionResult{
			Version: aVersionInfo(), Key: aKeyInfo(), Spread: kms.Spread{Revision: 3, Acknowledged: []string{"a"}, Took: time.Second},
		}, EncodeImportKeyVersionResponse, DecodeImportKeyVersionResponse),
	} {
		t.Run(name, func(t *testing.T) { run(t, true) })
	}
	t.Run("ImportKeyVersionRequest into an existing key", func(t *testing.T) {
		trip(existing, EncodeImportKeyVersionRequest, DecodeImportKeyVersionRequest)(t, false)
	})
}

func TestImportEnumsAreComplete(t *testing.T) {
	for _, m := range kms.ImportMethods() {
		if got := importMethods.encode(m); got.String() != "IMPORT_METHOD_"+m.String() || int(got) != int(m) {
			t.Errorf("%s is %s on the wire", m, got)
		}
	}
	for _, s := range []kms.ImportJobState{kms.ImportJobCreating, kms.ImportJobActive, kms.ImportJobExpired} {
		if got := importJobStates.encode(s); got.String() != "IMPORT_JOB_STATE_"+s.String() {
			t.Errorf("%s is %s on the wire", s, got)
		}
	}
}

func TestImportViolations(t *testing.T) {
	bad := "namespaces/shop/keys/orders"
	for name, test := range map[string]struct {
		err  error
		want []string
	}{
		"CreateImportJob, empty": {errorOf(DecodeCreateImportJobRequest(&kmsv1.CreateImportJobRequest{})), []string{"import_job_id", "parent"}},
		"CreateImportJob": {errorOf(DecodeCreateImportJobRequest(&kmsv1.CreateImportJobRequest{
			Parent: "shop", ImportJobId: "a/b", Method: 99, Ttl: &durationpb.Duration{},
		})), []string{"import_job_id", "method", "parent", "ttl"}},
		"GetImportJob": {errorOf(DecodeGetImportJobRequest(&kmsv1.GetImportJobRequest{Name: bad})), []string{"name"}},
		"ImportKeyVersion, empty": {errorOf(DecodeImportKeyVersionRequest(&kmsv1.ImportKeyVersionRequest{})), []string{
			"import_job", "parent",
		}},
		"ImportKeyVersion": {errorOf(DecodeImportKeyVersionRequest(&kmsv1.ImportKeyVersionRequest{
			Parent: bad, ImportJob: bad,
			Key: &kmsv1.Key{Name: bad, Algorithm: 99, CreateTime: &timestamppb.Timestamp{Seconds: 1}},
		})), []string{"import_job", "key.algorithm", "key.create_time", "key.name"}},
	} {
		if got := fieldsOf(t, test.err); !slices.Equal(got, test.want) {
			t.Errorf("%s: violations of %q, want %q", name, got, test.want)
		}
	}
}
