package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// How long import jobs last.
const (
	DefaultImportJobTTL = 3 * 24 * time.Hour // as in Google Cloud KMS
	MinImportJobTTL     = time.Second
	MaxImportJobTTL     = 30 * 24 * time.Hour
)

// CreateImportJobRequest asks for an import job.
type CreateImportJobRequest struct {
	Name   ImportJobName
	Method ImportMethod  // 0: the first of ImportMethods that the token has
	TTL    time.Duration // MinImportJobTTL to MaxImportJobTTL; 0: DefaultImportJobTTL
	// RequestID is a UUID, or empty.
	RequestID string
}

// ImportJobList is a page of import jobs by name.
type ImportJobList struct {
	Jobs      []*ImportJob
	NextToken string // empty: the last page
}

// CreateImportJob makes an RSA wrapping key in the token. A job whose time has passed gives
// its name to the new one, and its row is gone. A call repeated with the same request id
// returns the job that the first made, also when that is EXPIRED: it makes no other in its
// place. The id is known as long as that job is there. When it returns, all replicas know
// the job. Errors: ErrImportJobExists, ErrNamespaceNotFound, ErrUnsupported (the token lacks the
// method), ErrRequestIDReused, ErrStillSpreading.
func (s *Service) CreateImportJob(ctx context.Context, p Principal, r *CreateImportJobRequest) (*ImportJob, error) {
	var made *ImportJob
	call := &controlCall{
		principal: p, action: ActionCreateImportJob, namespace: r.Name.Namespace(), resource: r.Name.String(),
		invalid: firstError(required("import_job_id", r.Name.IsZero()),
			checkChoice("method", r.Method == 0 || r.Method.Valid()), checkImportJobTTL(r.TTL), checkRequestID(r.RequestID)),
	}
	call.work = func(ctx context.Context) error {
		job, revision, err := s.createImportJob(ctx, p, r)
		if err != nil {
			return err
		}
		spread, err := s.spread(ctx, revision)
		if err == nil {
			made = job
		}
		call.spread = &spread
		return err
	}
	if err := s.perform(ctx, call); err != nil {
		return nil, err
	}
	return made, nil
}

func checkImportJobTTL(d time.Duration) error {
	if d != 0 && (d < MinImportJobTTL || d > MaxImportJobTTL) {
		return Invalid(Violation{"ttl", fmt.Sprintf("%v is not from %v to %v", d, MinImportJobTTL, MaxImportJobTTL)})
	}
	return nil
}

func (s *Service) createImportJob(ctx context.Context, p Principal, r *CreateImportJobRequest) (*ImportJob, Revision, error) {
	if err := s.refuseReplacement(r); err != nil {
		return nil, 0, err
	}
	unlock, err := s.lockImportJob(ctx, r.Name)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	var replaced *ImportJob
	digest := digestFields("CreateImportJob", r.Name.String(), r.Method.String(), r.TTL.String())
	if existing := s.snapshot.Load().importJob(r.Name); existing != nil {
		switch {
		case existing.State == ImportJobCreating:
			// What an earlier attempt left and could not clear away.
			if err := s.undoImportJob(ctx, existing); err != nil {
				return nil, 0, err
			}
		case !r.made(existing) && existing.expired(s.now()):
			replaced = existing
		case !r.made(existing):
			return nil, 0, errorf(ErrImportJobExists, "%s exists already", r.Name)
		case !slices.Equal(existing.RequestDigest, digest):
			return nil, 0, errorf(ErrRequestIDReused, "request %s created %s with other fields", r.RequestID, r.Name)
		default:
			return s.importJobInfo(existing), s.snapshot.Load().Revision(), nil
		}
	}
	method, err := s.chooseMethod(r.Method)
	if err != nil {
		return nil, 0, err
	}
	ttl := r.TTL
	if ttl == 0 {
		ttl = DefaultImportJobTTL
	}
	now := s.now()
	job := &ImportJob{
		Name: r.Name, Method: method, State: ImportJobCreating, CreateTime: now, CreatedBy: p.Name,
		ExpireTime: now.Add(ttl).Truncate(time.Microsecond), RequestID: r.RequestID, RequestDigest: digest,
	}
	if _, err := rand.Read(job.UID[:]); err != nil {
		return nil, 0, errorf(ErrTokenUnavailable, "no random bytes").because(err)
	}
	revision, err := s.makeImportJob(ctx, job, replaced)
	if err != nil {
		return nil, 0, err
	}
	return s.importJobInfo(s.snapshot.Load().importJob(r.Name)), revision, nil
}

// makeImportJob makes row and wrapping key of a job, in the place of one whose time has passed
// if there is one. The caller holds the job's lock.
func (s *Service) makeImportJob(ctx context.Context, job, replaced *ImportJob) (Revision, error) {
	active := *job
	return s.construct(ctx, &construction{
		name:  job.Name.String(),
		clear: func(ctx context.Context) error { return s.takeOut(ctx, replaced) },
		announce: func(now *Snapshot) (*Change, error) {
			if now.namespace(job.Name.Namespace()) == nil {
				return nil, namespaceNotFound(job.Name.Namespace())
			}
			return &Change{ImportJobs: []*ImportJob{job}}, nil
		},
		makeObject: func(ctx context.Context) error { return s.makeWrappingKey(ctx, &active) },
		activate: func(now *Snapshot, announced Revision) (*Change, error) {
			row := now.importJob(job.Name)
			if row == nil || row.UID != job.UID || row.Revision != announced {
				return nil, errorf(ErrConflict, "%s was changed by somebody else while it was made", job.Name)
			}
			active.State, active.Revision = ImportJobActive, row.Revision
			return &Change{ImportJobs: []*ImportJob{&active}}, nil
		},
		abandon: func(ctx context.Context) error { return s.abandonImportJob(ctx, job) },
	})
}

// makeWrappingKey makes the token object of a job, and fills in what its row keeps of it.
func (s *Service) makeWrappingKey(ctx context.Context, job *ImportJob) error {
	unlock, err := s.lockObjects(ctx)
	if err != nil {
		return err
	}
	spec := job.Method.row().spec
	object, err := s.token.GenerateKey(ctx, job.UID, objectLabel(s.store.ID(), s.now()), spec)
	unlock()
	if err != nil {
		return tokenError(err, "make a wrapping key")
	}
	if job.PublicKey, err = s.token.PublicKey(ctx, job.UID); err != nil {
		return tokenError(err, "tell the public key of the wrapping key")
	}
	if _, err := hsm.ParsePublicKey(spec, job.PublicKey); err != nil {
		return errorf(ErrUnsupported, "the token made a wrapping key that is none of %s", spec).because(err)
	}
	job.Attributes = attributesOf(&object)
	return nil
}

// abandonImportJob clears away what there is of a job whose making failed, once it is known
// what the store holds of it.
func (s *Service) abandonImportJob(ctx context.Context, job *ImportJob) error {
	if err := s.refresh(ctx); err != nil {
		return err
	}
	left, ok := s.snapshot.Load().wrappingKeys.Get(string(job.UID[:]))
	switch {
	case !ok:
		return s.destroyObject(ctx, job.UID)
	case left.State == ImportJobCreating:
		return s.undoImportJob(ctx, left)
	default: // it was activated, and only the answer was lost
		return nil
	}
}

// undoImportJob removes what there is of a job in state CREATING: its wrapping key and its
// row, which it first gives another revision, so that who may be making the job still does
// not activate it. The caller holds the job's lock.
func (s *Service) undoImportJob(ctx context.Context, job *ImportJob) error {
	creating := func(now *Snapshot) *ImportJob {
		if row := now.importJob(job.Name); row != nil && row.UID == job.UID && row.State == ImportJobCreating {
			return row
		}
		return nil
	}
	_, err := s.commit(ctx, func(now *Snapshot) (*Change, error) {
		row := creating(now)
		if row == nil {
			return nil, errorf(ErrConflict, "%s is not being created any more", job.Name)
		}
		return &Change{ImportJobs: []*ImportJob{row}}, nil
	})
	if err != nil {
		return err
	}
	if err := s.destroyObject(ctx, job.UID); err != nil {
		return err
	}
	_, err = s.commit(ctx, func(now *Snapshot) (*Change, error) {
		if row := creating(now); row != nil {
			return &Change{RemoveImportJobs: []*ImportJob{row}}, nil
		}
		return nil, nil
	})
	return err
}

// GetImportJob returns an import job. Errors: ErrImportJobNotFound.
func (s *Service) GetImportJob(ctx context.Context, p Principal, name ImportJobName) (*ImportJob, error) {
	var found *ImportJob
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionGetImportJob, namespace: name.Namespace(), resource: name.String(),
		invalid: required("name", name.IsZero()),
		work: func(context.Context) error {
			job := s.snapshot.Load().importJob(name)
			if job == nil {
				return importJobNotFound(name)
			}
			found = s.importJobInfo(job)
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// ListImportJobs returns a page of the import jobs of a namespace, ordered by name. Errors:
// ErrNamespaceNotFound.
func (s *Service) ListImportJobs(ctx context.Context, p Principal, parent NamespaceName, page Page) (*ImportJobList, error) {
	list := &ImportJobList{}
	token := "importJobs/" + parent.ID()
	from, size, invalid := page.parse(token)
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionListImportJobs, namespace: parent, resource: parent.String(),
		invalid: firstError(required("parent", parent.IsZero()), invalid),
		work: func(context.Context) error {
			now := s.snapshot.Load()
			if now.namespace(parent) == nil {
				return namespaceNotFound(parent)
			}
			prefix := parent.ID() + "\x00"
			now.importJobs.Ascend(prefix+from, func(index string, job *ImportJob) bool {
				if !strings.HasPrefix(index, prefix) {
					return false
				}
				if len(list.Jobs) == size {
					list.NextToken = pageToken(token, job.Name.ID())
					return false
				}
				list.Jobs = append(list.Jobs, s.importJobInfo(job))
				return true
			})
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// importJobInfo is what callers are told of a job: from its time on it is EXPIRED, also
// where the wrapping key waits to be destroyed.
func (s *Service) importJobInfo(job *ImportJob) *ImportJob {
	info := *job
	info.PublicKey = bytes.Clone(job.PublicKey)
	if job.expired(s.now()) {
		info.State = ImportJobExpired
	}
	return &info
}

func importJobNotFound(name ImportJobName) *Error {
	return errorf(ErrImportJobNotFound, "%s does not exist", name)
}
