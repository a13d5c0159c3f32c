package kms

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// jobExpirer destroys the wrapping keys of import jobs whose time has passed. All replicas
// watch; under the lock the first does it. What it ends could not be used any more: a job
// is expired by its time, whatever its row's state.
type jobExpirer struct {
	errand
	retries retries[ImportJobName] // of the errand only
}

func (e *jobExpirer) start(s *Service) { e.errand.start(s.expireDue) }

// expireDue ends the jobs that are due, and returns how long to rest.
func (s *Service) expireDue(ctx context.Context) time.Duration {
	e := &s.jobExpirer
	due, rest := s.dueJobs(s.snapshot.Load(), s.now())
	e.retries.keep(func(name ImportJobName) bool { return due[name] })
	for name := range due {
		if ctx.Err() != nil {
			return rest
		}
		if wait := e.retries.wait(name, s.now()); wait > 0 {
			rest = min(rest, wait)
			continue
		}
		err := s.expire(ctx, name)
		e.retries.note(name, s.now(), err)
		if err != nil && ctx.Err() == nil {
			rest = min(rest, e.retries.wait(name, s.now()))
			s.log.ErrorContext(ctx, "the wrapping key of an expired import job is not destroyed; it will be tried again",
				slog.String("import_job", name.String()), slog.Any("error", causeOf(err)))
		}
	}
	return rest
}

// dueJobs is the set of jobs to end now, and how long until there are more.
func (s *Service) dueJobs(now *Snapshot, at time.Time) (due map[ImportJobName]bool, rest time.Duration) {
	due, rest = make(map[ImportJobName]bool), errandRest
	now.importJobs.Scan(func(_ string, job *ImportJob) bool {
		if job.State == ImportJobActive {
			if wait := job.ExpireTime.Sub(at); wait > 0 {
				rest = min(rest, wait)
			} else {
				due[job.Name] = true
			}
		}
		return true
	})
	return due, rest
}

// expire ends a job of the errand's, unless another replica was first.
func (s *Service) expire(ctx context.Context, name ImportJobName) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	unlock, err := s.lockImportJob(ctx, name)
	if err != nil {
		return s.recordEnd(ctx, name, err)
	}
	defer unlock()
	job := s.snapshot.Load().importJob(name)
	if job == nil || job.State != ImportJobActive || !job.expired(s.now()) {
		return nil
	}
	return s.end(ctx, job)
}

// end destroys the wrapping key of a job whose time has passed, enters that in its row, and
// records it. The caller holds the job's lock.
func (s *Service) end(ctx context.Context, job *ImportJob) error {
	return s.recordEnd(ctx, job.Name, s.destroyWrappingKey(ctx, job))
}

// recordEnd records how the end of a job went, and returns its error. What was given up before
// its turn is not recorded.
func (s *Service) recordEnd(ctx context.Context, name ImportJobName, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	event := &Event{
		Time: s.now(), Principal: systemPrincipal(), Action: ActionExpireImportJob, Namespace: name.Namespace(),
		Resource: name.String(), Reason: "the time of the import job has passed", Err: err,
	}
	if auditErr := s.record(ctx, event); auditErr != nil && err == nil {
		s.log.ErrorContext(ctx, "an import job was ended and that could not be recorded", slog.String("import_job", name.String()))
	}
	return err
}

func (s *Service) destroyWrappingKey(ctx context.Context, job *ImportJob) error {
	if _, err := s.token.Key(ctx, job.UID); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
		return tokenError(err, "look up the wrapping key") // before anything is begun
	}
	// Nor is anything begun before the keys are made that are being made: that can take longer
	// than what was begun may.
	unlock, err := s.lockObjects(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	err = s.destroyUnderLock(ctx, job.UID)
	unlock()
	if err != nil {
		return err
	}
	_, err = s.commit(ctx, func(now *Snapshot) (*Change, error) {
		row := now.importJob(job.Name)
		if row == nil || row.UID != job.UID || row.State != ImportJobActive {
			return nil, nil
		}
		gone := *row
		gone.State = ImportJobExpired
		return &Change{ImportJobs: []*ImportJob{&gone}}, nil
	})
	return err
}
