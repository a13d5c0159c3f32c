package kms

import (
	"context"
	"fmt"
)

// otherCopy says why it seems that a copy of the store is in use with the same token: an
// anchor holds what this store did not note, and which its history does not contain. What
// the other one has made in the token has no row here. Empty: there is no sign of one.
//
// Signs are seen only while the other copy's note stands in the anchor that both write.
func (s *Service) otherCopy(ctx context.Context) (string, error) {
	for _, anchor := range s.anchors.present() {
		least := s.anchors.sureOf()
		noted, ok, err := anchor.Read(ctx)
		if err != nil {
			return "", err
		}
		if !ok {
			continue
		}
		if err := s.refresh(ctx); err != nil { // after the reading: other replicas note what they have committed
			return "", err
		}
		switch now := s.snapshot.Load(); {
		case noted.Revision > now.Revision():
			return fmt.Sprintf("%s holds revision %d, and the store is at %d", anchor.Name(), noted.Revision, now.Revision()), nil
		case now.head.contradicts(noted):
			return fmt.Sprintf("%s holds revision %d of another history", anchor.Name(), noted.Revision), nil
		case s.store.Exclusive() && noted.Revision < least:
			return fmt.Sprintf("%s holds revision %d, after %d was noted there", anchor.Name(), noted.Revision, least), nil
		}
	}
	return "", nil
}

// sureOf is the revision that was noted in all anchors; 0: there is no telling.
func (a *anchors) sureOf() Revision {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return 0
	}
	return a.noted
}

// refuseOtherCopy refuses to destroy orphans when they may be keys of another copy.
func (s *Service) refuseOtherCopy(ctx context.Context) error {
	why, err := s.otherCopy(ctx)
	if err != nil || why == "" {
		return err
	}
	return errorf(ErrRollbackAccepted, "orphans are not destroyed: %s. A copy of this store, or the one that this is a copy of, "+
		"is in use with the same token, and what no version names here may be a key there", why)
}

// diagnoseAnchors is what there is to say of the anchors.
func (s *Service) diagnoseAnchors(ctx context.Context) Finding {
	f := s.anchors.finding()
	if why, err := s.otherCopy(ctx); err == nil && why != "" {
		f.Severity = SeverityError
		f.Detail += "; but " + why + ": another copy of this store is in use with the same token"
		f.Remedy = "stop one of them: revocations in one are unknown to the other, and its keys look like orphans"
	}
	return f
}
