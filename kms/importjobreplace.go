package kms

import "context"

// This file has an import job take the place of an expired one of the same name, so that
// whoever imports again and again, by jobs of one name, does not fill the store. By which job
// a version came in is in the audit log: nothing needs the row of an expired one.

// made reports whether the request is the one that has made the job.
func (r *CreateImportJobRequest) made(job *ImportJob) bool {
	return r.RequestID != "" && r.RequestID == job.RequestID
}

// endBeforehand ends the job of the name that is asked for, if its time has passed and the
// errand has not come by yet: callers are told that it is EXPIRED, so it must not be in the
// way. Only the end of its wrapping key makes it one that can be replaced.
func (s *Service) endBeforehand(ctx context.Context, r *CreateImportJobRequest) error {
	job := s.snapshot.Load().importJob(r.Name)
	if job == nil || job.State != ImportJobActive || !job.expired(s.now()) || r.made(job) {
		return nil
	}
	return s.expire(ctx, r.Name)
}

// removeExpired removes the row of a job that is EXPIRED and is to be replaced; nil: there is
// none. It is a change of its own, since a change has one entry per row; should the new job
// then not be made, the name is free. The caller holds the job's lock. If that was lost and
// somebody else has replaced the job meanwhile, the row is another, and neither this nor the
// announcement of the new job, which puts a row that must not exist yet, does anything to it.
func (s *Service) removeExpired(ctx context.Context, job *ImportJob) error {
	if job == nil {
		return nil
	}
	_, err := s.commit(ctx, func(now *Snapshot) (*Change, error) {
		row := now.importJob(job.Name)
		if row == nil || row.UID != job.UID || row.State != ImportJobExpired {
			return nil, errorf(ErrConflict, "%s was replaced by somebody else", job.Name)
		}
		return &Change{RemoveImportJobs: []*ImportJob{row}}, nil
	})
	return err
}
