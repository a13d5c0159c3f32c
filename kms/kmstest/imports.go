package kmstest

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/kms"
)

func (s *suite) importJob(id string) kms.ImportJobName {
	s.Helper()
	name, err := kms.NewImportJobName(s.namespace(kms.DefaultNamespace), id)
	if err != nil {
		s.Fatal(err)
	}
	return name
}

// testImports brings a key in as the first version of a new key, and another beside it.
func testImports(t *testing.T, s *suite) {
	r := &kms.CreateImportJobRequest{Name: s.importJob("laptop"), TTL: time.Hour, RequestID: uuid.NewString()}
	job, err := s.Admin.API.CreateImportJob(s.ctx, s.Admin.Principal, r)
	if err != nil {
		t.Fatalf("CreateImportJob: %v", err)
	}
	if job.Name != r.Name || job.State != kms.ImportJobActive || !job.Method.Valid() || len(job.PublicKey) == 0 ||
		job.ExpireTime.Sub(job.CreateTime) != time.Hour {
		t.Fatalf("the job: %+v", job)
	}
	for what, get := range map[string]func() (*kms.ImportJob, error){
		"repeated": func() (*kms.ImportJob, error) {
			return s.Admin.API.CreateImportJob(s.ctx, s.Admin.Principal, r)
		},
		"read": func() (*kms.ImportJob, error) { return s.Admin.API.GetImportJob(s.ctx, s.Admin.Principal, r.Name) },
		"listed": func() (*kms.ImportJob, error) {
			list, err := s.Admin.API.ListImportJobs(s.ctx, s.Admin.Principal, r.Name.Namespace(), kms.Page{})
			if err != nil || len(list.Jobs) != 1 || list.NextToken != "" {
				t.Fatalf("ListImportJobs: %+v, %v", list, err)
			}
			return list.Jobs[0], nil
		},
	} {
		got, err := get()
		if err != nil || got.UID != job.UID || got.Revision != job.Revision || !bytes.Equal(got.PublicKey, job.PublicKey) {
			t.Errorf("%s it is %+v, %v", what, got, err)
		}
	}
	_, err = s.Admin.API.GetImportJob(s.ctx, s.Admin.Principal, s.importJob("unknown"))
	wantError(t, err, kms.ErrImportJobNotFound, "GetImportJob")
	_, err = s.Admin.API.CreateImportJob(s.ctx, s.Admin.Principal, &kms.CreateImportJobRequest{Name: r.Name})
	wantError(t, err, kms.ErrImportJobExists, "CreateImportJob of the same name")

	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		t.Fatal(err)
	}
	wrapped, err := job.Wrap(secret)
	if err != nil {
		t.Fatalf("Wrap: %v", err)
	}
	request := &kms.ImportKeyVersionRequest{
		Key: s.key("webhooks"), Job: job.Name, WrappedKey: wrapped, RequestID: uuid.NewString(),
		New: &kms.NewKey{Algorithm: kms.AlgorithmHMACSHA256, Labels: map[string]string{"from": "laptop"}},
	}
	for _, what := range []string{"first", "repeated"} {
		result, err := s.Admin.API.ImportKeyVersion(s.ctx, s.Admin.Principal, request)
		if err != nil {
			t.Fatalf("ImportKeyVersion, %s: %v", what, err)
		}
		if v := result.Version; v.Name != request.Key.Version(1) || !v.Primary || !v.Imported || v.State != kms.StateEnabled ||
			result.Key.Purpose != kms.PurposeMAC || result.Key.Labels["from"] != "laptop" || result.Key.VersionCount != 1 {
			t.Fatalf("ImportKeyVersion, %s: %+v of %+v", what, v, result.Key)
		}
	}
	tag, err := s.Admin.API.GenerateMac(s.ctx, s.Admin.Principal, &kms.GenerateMacRequest{Key: request.Key, Message: []byte("message")})
	if err != nil {
		t.Fatalf("GenerateMac: %v", err)
	}
	want := hmac.New(sha256.New, secret)
	want.Write([]byte("message"))
	if !hmac.Equal(tag.Mac, want.Sum(nil)) {
		t.Fatal("another key was imported")
	}

	beside := &kms.ImportKeyVersionRequest{Key: request.Key, Job: job.Name, WrappedKey: wrapped}
	result, err := s.Admin.API.ImportKeyVersion(s.ctx, s.Admin.Principal, beside)
	if err != nil || result.Version.Name.Number() != 2 || result.Version.Primary || result.Key.Primary != 1 {
		t.Fatalf("ImportKeyVersion into an existing key: %+v, %v", result, err)
	}
	wrapped[len(wrapped)-1] ^= 1
	_, err = s.Admin.API.ImportKeyVersion(s.ctx, s.Admin.Principal, beside)
	wantError(t, err, kms.ErrWrappedKey, "ImportKeyVersion of a wrapped key that was changed")
	for name, call := range map[string]func() error{
		"CreateImportJob": func() error {
			_, err := s.Stranger.API.CreateImportJob(s.ctx, s.Stranger.Principal, &kms.CreateImportJobRequest{Name: s.importJob("mine")})
			return err
		},
		"GetImportJob": func() error {
			_, err := s.Stranger.API.GetImportJob(s.ctx, s.Stranger.Principal, job.Name)
			return err
		},
		"ListImportJobs": func() error {
			_, err := s.Stranger.API.ListImportJobs(s.ctx, s.Stranger.Principal, job.Name.Namespace(), kms.Page{})
			return err
		},
		"ImportKeyVersion": func() error {
			_, err := s.Stranger.API.ImportKeyVersion(s.ctx, s.Stranger.Principal, beside)
			return err
		},
	} {
		wantError(t, call(), kms.ErrNotAccessible, name+" by a stranger")
	}
}
