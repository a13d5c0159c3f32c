package kms

import (
	"context"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// ImportJob is an RSA key pair in the token under which callers wrap keys that they bring
// in. A value is immutable once stored.
type ImportJob struct {
	Name   ImportJobName
	UID    hsm.UID // CKA_ID of the wrapping key
	Method ImportMethod
	State  ImportJobState

	CreateTime time.Time
	CreatedBy  string    // the principal's name
	ExpireTime time.Time // from then on nothing is imported by it

	// PublicKey is the wrapping key's, DER of a PKIX SubjectPublicKeyInfo (RFC 5280). Empty
	// while CREATING.
	PublicKey []byte
	// Attributes are those of the private key when it was made, as the token reported them.
	// Zero while CREATING.
	Attributes ObjectAttributes

	// RequestID and RequestDigest are those of the call that made the job; empty: the caller
	// gave none.
	RequestID     string
	RequestDigest []byte

	Revision Revision // at which it was last changed; 0: not stored yet
}

// ImportJobState is the state of an import job.
type ImportJobState uint8

// The states. The zero value is none of them.
const (
	// ImportJobCreating: the row announces a wrapping key that is not confirmed yet.
	ImportJobCreating ImportJobState = 1
	// ImportJobActive: keys can be imported.
	ImportJobActive ImportJobState = 2
	// ImportJobExpired: the job's time has passed, and the wrapping key is destroyed.
	ImportJobExpired ImportJobState = 3
)

// String returns the state's name, as ACTIVE.
func (s ImportJobState) String() string {
	switch s {
	case ImportJobCreating:
		return "CREATING"
	case ImportJobActive:
		return "ACTIVE"
	case ImportJobExpired:
		return "EXPIRED"
	default:
		return "IMPORT_JOB_STATE_UNSPECIFIED"
	}
}

// expired reports whether the job's time has passed; the wrapping key may still be there.
func (j *ImportJob) expired(now time.Time) bool {
	return j.State == ImportJobExpired || j.State == ImportJobActive && !now.Before(j.ExpireTime)
}

// jobIndex orders import jobs by namespace, then by job.
func jobIndex(name ImportJobName) string { return name.Namespace().ID() + "\x00" + name.ID() }

func (s *Snapshot) importJob(name ImportJobName) *ImportJob {
	job, _ := s.importJobs.Get(jobIndex(name))
	return job
}

func (s *Snapshot) putImportJob(job *ImportJob) {
	s.importJobs.Set(jobIndex(job.Name), job)
	s.wrappingKeys.Set(string(job.UID[:]), job)
}

func (s *Snapshot) removeImportJob(name ImportJobName) {
	if job, ok := s.importJobs.Delete(jobIndex(name)); ok {
		s.wrappingKeys.Delete(string(job.UID[:]))
	}
}

// lockImportJob takes the lock under which row and wrapping key of a job change, here and
// in all replicas, and catches up with the store.
func (s *Service) lockImportJob(ctx context.Context, name ImportJobName) (unlock func(), err error) {
	unlockHere, err := s.importJobLocks.lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.lockEverywhere(ctx, unlockHere, importJobLock(name))
}

func importJobLock(name ImportJobName) string { return "importJob/" + name.String() }
