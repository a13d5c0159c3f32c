package kms

import "context"

// markUsed makes it durable, before the first result of a version is released, that the
// version protects something: revoking it then wants the caller's consent. u is the use
// that it is put to.
func (s *Service) markUsed(ctx context.Context, v *versionEntry, u use) error {
	if v.live.used.Load() {
		return nil
	}
	_, err := s.commit(ctx, func(now *Snapshot) (*Change, error) {
		current := now.versionByUID(v.UID)
		if current == nil {
			return nil, notAccessible()
		}
		if err := now.refuses(current, u); err != nil {
			return nil, err
		}
		if !current.FirstUse.IsZero() {
			return nil, nil
		}
		used := *current.Version
		used.FirstUse = s.now()
		return &Change{Versions: []*Version{&used}}, nil
	})
	return err
}
