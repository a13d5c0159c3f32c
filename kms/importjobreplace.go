package kms

import "context"

// This file has an import job take the place of an expired one of the same name, so that
// whoever imports again and again, by jobs of one name, does not fill the store. By which job
// a version came in is in the audit log: nothing needs the row of an expired one.

// made reports whether the request is the one that has made the job.
func (r *CreateImportJobRequest) made(job *ImportJob) bool {
	return r.RequestID != "" && r.RequestID == job.RequestID
}

// refuseReplacement refuses at once what would be refused after a wait: the errand may hold
// the lock of a job whose time has passed, and end it only after keys that are being made.
func (s *Service) refuseReplacement(r *CreateImportJobRequest) error {
	if job := s.snapshot.Load().importJob(r.Name); job == nil || !job.expired(s.now()) || r.made(job) {
		return nil
	}
	return s.constructions.refusal()
}

// takeOut makes the name of a job free whose time has passed; nil: it is free. If the errand
// has not come by yet the job is ended first: callers are told that it is EXPIRED, so it must
// not be in the way. The caller holds the job's lock.
func (s *Service) takeOut(ctx context.Context, job *ImportJob) error {
	if job == nil {
		return nil
	}
	if job.State == ImportJobActive {
		if err := s.end(ctx, job); err != nil {
			return err
		}
	}
	return s.removeExpired(ctx, job)
}

// removeExpired removes the row of a job that is EXPIRED and is to be replaced. It is a change
// of its own, since a change has one entry per row; should the new job then not be made, the
// name is free. The caller holds the job's lock. If that was lost and somebody else has
// replaced the job meanwhile, the row is another, and neither this nor the announcement of the
// new job, which puts a row that must not exist yet, does anything to it.
func (s *Service) removeExpired(ctx context.Context, job *ImportJob) error {
	_, err := s.commit(ctx, func(now *Snapshot) (*Change, error) {
		row := now.importJob(job.Name)
		if row == nil || row.UID != job.UID || row.State != ImportJobExpired {
			return nil, errorf(ErrConflict, "%s was replaced by somebody else", job.Name)
		}
		return &Change{RemoveImportJobs: []*ImportJob{row}}, nil
	})
	return err
}
