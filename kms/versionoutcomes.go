package kms

import "errors"

// versionOutcomes tells what is the matter of one key version from what concerns a request as
// a whole. A token that could not be used for one version, and could for another, is there:
// that is the matter of the items of the one, so that callers who share a request do not fail
// with each other's keys.
type versionOutcomes struct {
	served      bool  // the token was used
	unavailable error // why it could not be used for the first of the versions that it was not used for
}

// note takes the outcome of the items of one version. The error it returns concerns all
// items, and ends the request.
func (o *versionOutcomes) note(err error) error {
	switch {
	case err == nil:
		o.served = true
	case errors.Is(err, ErrTokenUnavailable):
		o.unavailable = firstError(o.unavailable, err)
	case concernsAll(err):
		return err
	}
	return nil
}

// end returns the error of the request once all versions had their turn.
func (o *versionOutcomes) end() error {
	if o.served {
		return nil
	}
	return o.unavailable
}
