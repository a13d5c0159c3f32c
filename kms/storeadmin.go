package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms/lease"
)

// ListReplicas lists the replicas on the store as their leases show them; of a store that
// belongs to one process, that one. A replica answers also when its own lease has lapsed.
// Errors: ErrStoreUnavailable.
func (s *Service) ListReplicas(ctx context.Context, p Principal) ([]*ReplicaInfo, error) {
	var list []*ReplicaInfo
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionListReplicas, resource: "replicas", whenLapsed: true,
		work: func(ctx context.Context) (err error) {
			list, err = s.replicas(ctx)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (s *Service) replicas(ctx context.Context) ([]*ReplicaInfo, error) {
	r := &s.replica
	if r.alone {
		return []*ReplicaInfo{{
			Lease: Lease{
				ID: r.instance, Applied: s.snapshot.Load().Revision(),
				Replica: r.config.Name, Release: r.config.Release, StartTime: r.began,
			},
			Self: true, Live: true,
		}}, nil
	}
	rows, head, err := s.store.Leases(ctx, false)
	if err != nil {
		return nil, err
	}
	r.notice(rows, r.config.Clock())
	list := make([]*ReplicaInfo, len(rows))
	for i, row := range rows {
		instance, _, _ := splitLeaseID(row.ID)
		info := &ReplicaInfo{Lease: *row, Self: instance == r.instance, Idle: r.idle(row)}
		info.Live = info.Idle <= row.Duration+lease.Margin(row.Duration)
		if info.Self {
			// What the row tells the others may be behind.
			info.Live, info.Applied = r.mayServe() == nil, max(row.Applied, r.acknowledged())
		}
		if head > info.Applied {
			info.Lag = uint64(head - info.Applied)
		}
		list[i] = info
	}
	return list, nil
}

// VerifyStore reads the whole store anew, verifies every seal, and compares it with what
// this replica has in memory and with what is noted outside of the store. What it finds
// wrong is in the report, and no error. Errors: ErrStoreUnavailable.
func (s *Service) VerifyStore(ctx context.Context, p Principal) (*StoreReport, error) {
	var report *StoreReport
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionVerifyStore, resource: "store", whenLapsed: true,
		work: func(ctx context.Context) (err error) {
			report, err = s.verifyStore(ctx)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return report, nil
}

func (s *Service) verifyStore(ctx context.Context) (*StoreReport, error) {
	report := &StoreReport{StoreID: s.store.ID(), Revision: s.snapshot.Load().Revision()}
	// Read before the store is, so that what comes between is no fault.
	heads, names := []Head{s.snapshot.Load().head}, []string{"this replica"}
	for _, anchor := range s.anchors.present() {
		head, ok, err := anchor.Read(ctx)
		if err != nil {
			report.Problems = append(report.Problems, anchor.Name()+": "+err.Error())
		} else if ok {
			heads, names = append(heads, head), append(names, anchor.Name())
		}
	}
	contents, err := s.store.Load(ctx)
	switch {
	case errors.Is(err, ErrTampered), errors.Is(err, ErrStoreWentBack):
		report.Problems = append(report.Problems, err.Error())
		return report, nil
	case err != nil:
		return nil, err
	}
	report.Revision, report.Rows, report.SealKey = contents.Head.Revision, contents.rows(), s.store.SealKey()
	for i, known := range heads {
		switch {
		case known.Revision > contents.Head.Revision:
			report.Problems = append(report.Problems, fmt.Sprintf("the store is at revision %d, but %s knows revision %d: it went backwards",
				contents.Head.Revision, names[i], known.Revision))
		case contents.Head.contradicts(known):
			report.Problems = append(report.Problems, fmt.Sprintf("the store is at revision %d as %s knows it, but of another history",
				contents.Head.Revision, names[i]))
		}
	}
	return report, nil
}

// rows counts the rows by kind.
func (c *Contents) rows() map[string]int {
	rows := map[string]int{
		"namespaces": len(c.Namespaces), "keys": len(c.Keys), "versions": len(c.Versions), "orphans": len(c.Orphans),
		"import_jobs": len(c.ImportJobs),
	}
	if c.Origin != nil {
		rows["origin"] = 1
	}
	return rows
}

// ResealStore makes a new seal key in the token and seals everything in the store with
// it. The former seal key stays in the token: backups made before need it. Errors:
// ErrTokenUnavailable, ErrStoreUnavailable, ErrStillSpreading.
func (s *Service) ResealStore(ctx context.Context, p Principal, reason string) (*StoreReport, error) {
	var report *StoreReport
	call := &controlCall{
		principal: p, action: ActionResealStore, resource: "store", reason: reason,
		invalid: checkReason(reason, true),
	}
	call.work = func(ctx context.Context) error {
		resealed, revision, err := s.reseal(ctx)
		if err != nil {
			return err
		}
		if resealed.Spread, err = s.spread(ctx, revision); err == nil {
			report = resealed
		}
		call.spread = &resealed.Spread
		return err
	}
	if err := s.perform(ctx, call); err != nil {
		return nil, err
	}
	return report, nil
}

func (s *Service) reseal(ctx context.Context) (*StoreReport, Revision, error) {
	var uid hsm.UID
	if _, err := rand.Read(uid[:]); err != nil {
		return nil, 0, errorf(ErrTokenUnavailable, "no random bytes").because(err)
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	if _, err := s.token.GenerateKey(ctx, uid, sealLabel(s.store.ID(), s.now()), hsm.AES256Blocks); err != nil {
		return nil, 0, tokenError(err, "make a seal key")
	}
	if _, err := s.store.Reseal(ctx, uid); err != nil {
		s.dropSealKey(ctx, uid, err)
		return nil, 0, err
	}
	revision, err := s.commit(ctx, func(*Snapshot) (*Change, error) { return nil, nil }) // applies what Reseal has changed
	if err != nil {
		return nil, 0, err
	}
	report := &StoreReport{StoreID: s.store.ID(), Revision: revision, SealKey: uid, Rows: s.snapshot.Load().rows()}
	return report, revision, nil
}

// dropSealKey removes a seal key that the store was not sealed with, if that is certain.
func (s *Service) dropSealKey(ctx context.Context, uid hsm.UID, failure error) {
	var refusal *Error
	if !errors.As(failure, &refusal) || errors.Is(failure, ErrStoreUnavailable) || s.store.SealKey() == uid {
		s.log.WarnContext(ctx, "it is not known whether the store was sealed with a new key, which stays in the token",
			slog.String("uid", uid.String()))
		return
	}
	if err := s.token.DestroyKey(ctx, uid); err != nil {
		s.log.WarnContext(ctx, "a seal key that was not used stays in the token",
			slog.String("uid", uid.String()), slog.Any("error", err))
	}
}

// rows counts the rows by kind.
func (s *Snapshot) rows() map[string]int {
	rows := map[string]int{
		"namespaces": s.namespaces.Len(), "keys": s.keys.Len(), "versions": s.versions.Len(), "orphans": s.orphans.Len(),
		"import_jobs": s.importJobs.Len(),
	}
	if s.origin != nil {
		rows["origin"] = 1
	}
	return rows
}

// BackupStore writes the metadata, with all seals, as it is at one revision. It is read
// back and verified, and the record of it written, before w gets the first byte. Without
// the token's own backup it is of no use. Errors: ErrStoreUnavailable.
func (s *Service) BackupStore(ctx context.Context, p Principal, w io.Writer) (*StoreReport, error) {
	var report *StoreReport
	var content []byte
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionBackupStore, resource: "store",
		work: func(ctx context.Context) error {
			written, backup, err := s.takeBackup(ctx)
			if err != nil {
				return err
			}
			content = written
			report = &StoreReport{
				StoreID: backup.StoreID, Revision: backup.Head.Revision, SealKey: backup.SealKey, Rows: backup.rows(),
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, errorf(ErrInvalidRequest, "the backup could not be handed over").because(err)
	}
	return report, nil
}

// takeBackup makes a backup and reads it back.
func (s *Service) takeBackup(ctx context.Context) (content []byte, backup *Backup, err error) {
	var buffer bytes.Buffer
	if _, err := s.store.Backup(ctx, &buffer); err != nil {
		return nil, nil, err
	}
	content = buffer.Bytes()
	backup, err = s.store.ReadBackup(ctx, bytes.NewReader(content))
	return content, backup, err
}
