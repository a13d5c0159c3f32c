package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

var importMethods = enumTable[kmsv1.ImportMethod, kms.ImportMethod]{
	{kmsv1.ImportMethod_IMPORT_METHOD_RSA_OAEP_3072_SHA1_AES_256, kms.ImportRSA3072SHA1},
	{kmsv1.ImportMethod_IMPORT_METHOD_RSA_OAEP_4096_SHA1_AES_256, kms.ImportRSA4096SHA1},
	{kmsv1.ImportMethod_IMPORT_METHOD_RSA_OAEP_3072_SHA256_AES_256, kms.ImportRSA3072SHA256},
	{kmsv1.ImportMethod_IMPORT_METHOD_RSA_OAEP_4096_SHA256_AES_256, kms.ImportRSA4096SHA256},
}

var importJobStates = enumTable[kmsv1.ImportJobState, kms.ImportJobState]{
	{kmsv1.ImportJobState_IMPORT_JOB_STATE_CREATING, kms.ImportJobCreating},
	{kmsv1.ImportJobState_IMPORT_JOB_STATE_ACTIVE, kms.ImportJobActive},
	{kmsv1.ImportJobState_IMPORT_JOB_STATE_EXPIRED, kms.ImportJobExpired},
}

// EncodeImportJob makes the message of an import job.
func EncodeImportJob(j *kms.ImportJob) *kmsv1.ImportJob {
	return &kmsv1.ImportJob{
		Name:       encodeName(j.Name),
		Method:     importMethods.encode(j.Method),
		State:      importJobStates.encode(j.State),
		PublicKey:  j.PublicKey,
		CreateTime: encodeTime(j.CreateTime),
		ExpireTime: encodeTime(j.ExpireTime),
		Uid:        encodeUID(j.UID),
		Attributes: encodeAttributes(&j.Attributes),
		Etag:       encodeEtag(j.Revision),
	}
}

// DecodeImportJob reads an import job. CreatedBy and what belongs to the request id are not
// on the wire.
func DecodeImportJob(m *kmsv1.ImportJob) (*kms.ImportJob, error) {
	r := response{}
	j := &kms.ImportJob{
		Name:       parsed(&r, m.GetName(), kms.ParseImportJobName),
		UID:        parsed(&r, m.GetUid(), parseUID),
		Method:     importMethods.lenient(m.GetMethod()),
		State:      importJobStates.lenient(m.GetState()),
		PublicKey:  m.GetPublicKey(),
		CreateTime: decodeTime(m.GetCreateTime()),
		ExpireTime: decodeTime(m.GetExpireTime()),
		Attributes: decodeAttributes(m.GetAttributes()),
		Revision:   parsed(&r, m.GetEtag(), parseEtag),
	}
	return j, r.err
}

// EncodeCreateImportJobRequest makes the message.
func EncodeCreateImportJobRequest(r *kms.CreateImportJobRequest) *kmsv1.CreateImportJobRequest {
	return &kmsv1.CreateImportJobRequest{
		Parent:      encodeName(r.Name.Namespace()),
		ImportJobId: r.Name.ID(),
		Method:      importMethods.encode(r.Method),
		Ttl:         encodeDuration(r.TTL),
		RequestId:   r.RequestID,
	}
}

// DecodeCreateImportJobRequest reads the request.
func DecodeCreateImportJobRequest(m *kmsv1.CreateImportJobRequest) (*kms.CreateImportJobRequest, error) {
	d := decoder{}
	namespace := d.namespace("parent", m.GetParent())
	r := &kms.CreateImportJobRequest{
		Name: named(&d, "import_job_id", m.GetImportJobId(), true, func(id string) (kms.ImportJobName, error) {
			if namespace.IsZero() {
				// The parent is wrong already; the segments have one grammar.
				_, err := kms.NewNamespaceName(id)
				return kms.ImportJobName{}, err
			}
			return kms.NewImportJobName(namespace, id)
		}),
		Method:    importMethods.strict(&d, "method", m.GetMethod()),
		TTL:       d.duration("ttl", m.GetTtl()),
		RequestID: m.GetRequestId(),
	}
	if m.GetTtl() != nil && r.TTL == 0 {
		d.refuse("ttl", "is zero: leave it unset for the default")
	}
	return r, d.err()
}

// EncodeGetImportJobRequest makes the message.
func EncodeGetImportJobRequest(name kms.ImportJobName) *kmsv1.GetImportJobRequest {
	return &kmsv1.GetImportJobRequest{Name: encodeName(name)}
}

// DecodeGetImportJobRequest returns the name of the job asked for.
func DecodeGetImportJobRequest(m *kmsv1.GetImportJobRequest) (kms.ImportJobName, error) {
	d := decoder{}
	name := named(&d, "name", m.GetName(), true, kms.ParseImportJobName)
	return name, d.err()
}

// EncodeListImportJobsRequest makes the message.
func EncodeListImportJobsRequest(parent kms.NamespaceName, page kms.Page) *kmsv1.ListImportJobsRequest {
	return &kmsv1.ListImportJobsRequest{
		Parent:    encodeName(parent),
		PageSize:  encodeInt(page.Size),
		PageToken: page.Token,
	}
}

// DecodeListImportJobsRequest returns the namespace and the page asked for.
func DecodeListImportJobsRequest(m *kmsv1.ListImportJobsRequest) (kms.NamespaceName, kms.Page, error) {
	d := decoder{}
	parent := d.namespace("parent", m.GetParent())
	return parent, kms.Page{Size: int(m.GetPageSize()), Token: m.GetPageToken()}, d.err()
}

// EncodeListImportJobsResponse makes the message.
func EncodeListImportJobsResponse(list *kms.ImportJobList) *kmsv1.ListImportJobsResponse {
	return &kmsv1.ListImportJobsResponse{ImportJobs: each(list.Jobs, EncodeImportJob), NextPageToken: list.NextToken}
}

// DecodeListImportJobsResponse reads a page.
func DecodeListImportJobsResponse(m *kmsv1.ListImportJobsResponse) (*kms.ImportJobList, error) {
	jobs, err := all(m.GetImportJobs(), DecodeImportJob)
	if err != nil {
		return nil, err
	}
	return &kms.ImportJobList{Jobs: jobs, NextToken: m.GetNextPageToken()}, nil
}

// EncodeImportKeyVersionRequest makes the message.
func EncodeImportKeyVersionRequest(r *kms.ImportKeyVersionRequest) *kmsv1.ImportKeyVersionRequest {
	m := &kmsv1.ImportKeyVersionRequest{
		Parent:      encodeName(r.Key),
		ImportJob:   encodeName(r.Job),
		WrappedKey:  r.WrappedKey,
		PublicKey:   r.PublicKey,
		MakePrimary: r.MakePrimary,
		RequestId:   r.RequestID,
	}
	if n := r.New; n != nil {
		m.Key = &kmsv1.Key{
			Purpose:           purposes.encode(n.Purpose),
			Algorithm:         algorithms.encode(n.Algorithm),
			ProtectionProfile: profiles.encode(n.Profile),
			Labels:            n.Labels,
			RotationPeriod:    encodeDuration(n.RotationPeriod),
		}
	}
	return m
}

// DecodeImportKeyVersionRequest reads the request. A key that is set is to be made; fields
// of it that are not the caller's to set are violations.
func DecodeImportKeyVersionRequest(m *kmsv1.ImportKeyVersionRequest) (*kms.ImportKeyVersionRequest, error) {
	d := decoder{}
	r := &kms.ImportKeyVersionRequest{
		Key:         d.key("parent", m.GetParent()),
		Job:         named(&d, "import_job", m.GetImportJob(), true, kms.ParseImportJobName),
		WrappedKey:  m.GetWrappedKey(),
		PublicKey:   m.GetPublicKey(),
		MakePrimary: m.GetMakePrimary(),
		RequestID:   m.GetRequestId(),
	}
	if key := m.GetKey(); key != nil {
		r.New = &kms.NewKey{
			Purpose:        purposes.strict(&d, "key.purpose", key.GetPurpose()),
			Algorithm:      algorithms.strict(&d, "key.algorithm", key.GetAlgorithm()),
			Profile:        profiles.strict(&d, "key.protection_profile", key.GetProtectionProfile()),
			Labels:         key.GetLabels(),
			RotationPeriod: d.duration("key.rotation_period", key.GetRotationPeriod()),
		}
		d.refuseOutput(key)
	}
	return r, d.err()
}

// EncodeImportKeyVersionResponse makes the message.
func EncodeImportKeyVersionResponse(r *kms.ImportKeyVersionResult) *kmsv1.ImportKeyVersionResponse {
	return &kmsv1.ImportKeyVersionResponse{
		Version: EncodeKeyVersion(r.Version),
		Key:     EncodeKey(r.Key),
		Spread:  encodeSpread(&r.Spread),
	}
}

// DecodeImportKeyVersionResponse reads the result of an import.
func DecodeImportKeyVersionResponse(m *kmsv1.ImportKeyVersionResponse) (*kms.ImportKeyVersionResult, error) {
	version, key, err := decodeVersionAndKey(m)
	if err != nil {
		return nil, err
	}
	return &kms.ImportKeyVersionResult{Version: version, Key: key, Spread: decodeSpread(m.GetSpread())}, nil
}
