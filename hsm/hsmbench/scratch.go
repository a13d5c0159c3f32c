package hsmbench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// labelPrefix begins the CKA_LABEL of every scratch key; the Unix time follows. No label
// of the service's own keys begins so.
const labelPrefix = "keyholt-bench:"

// cleanUpTimeout is how long destroying the scratch keys may take after the context of the
// measurement has ended.
const cleanUpTimeout = 30 * time.Second

// scratch generates keys and destroys them.
type scratch struct {
	token hsm.Token
	label string
	keys  []hsm.UID // those that are there, or may be
}

func newScratch(token hsm.Token) *scratch {
	return &scratch{token: token, label: fmt.Sprintf("%s%d", labelPrefix, time.Now().Unix())}
}

func (s *scratch) generate(ctx context.Context, spec hsm.KeySpec) (hsm.UID, error) {
	var uid hsm.UID
	rand.Read(uid[:])
	s.keys = append(s.keys, uid) // first: a call that fails may have made the key
	_, err := s.token.GenerateKey(ctx, uid, s.label, spec)
	return uid, err
}

// destroyLast destroys the key that was generated last.
func (s *scratch) destroyLast(ctx context.Context) error {
	last := len(s.keys) - 1
	if err := s.token.DestroyKey(ctx, s.keys[last]); err != nil {
		return err
	}
	s.keys = s.keys[:last]
	return nil
}

// cleanUp destroys what is left, also after ctx has ended. Its errors name each key that
// may still be in the token.
func (s *scratch) cleanUp(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	for _, uid := range s.keys {
		if e := s.token.DestroyKey(ctx, uid); e != nil && !errors.Is(e, hsm.ErrKeyNotFound) {
			err = errors.Join(err, fmt.Errorf("scratch key %s was not destroyed: %w", uid, e))
		}
	}
	s.keys = nil
	return err
}

// leftovers lists the scratch keys that are in the token.
func leftovers(ctx context.Context, token hsm.Objects) ([]Leftover, error) {
	objects, err := token.Keys(ctx)
	if err != nil {
		return nil, err
	}
	found := []Leftover{} // none is an empty list in JSON
	for i := range objects {
		if strings.HasPrefix(objects[i].Label, labelPrefix) {
			found = append(found, Leftover{UID: objects[i].UID.String(), Label: objects[i].Label})
		}
	}
	return found, nil
}
