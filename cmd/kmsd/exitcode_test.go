package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/keystore"
)

func TestExitCodeOf(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want int
	}{
		{"success", nil, 0},
		{"anything", errors.New("x"), 1},
		{"usage", usageError("x"), 2},
		{"no module", fmt.Errorf("x: %w", hsm.ErrModule), 69},
		{"no token", hsm.ErrTokenNotFound, 69},
		{"token does not answer", &kms.Error{Sentinel: kms.ErrTokenUnavailable, Cause: hsm.ErrUnavailable}, 69},
		{"self-test", &kms.SelfTestError{Cause: errors.New("wrong answer")}, 70},
		{"self-test, token refuses", &kms.SelfTestError{Cause: &kms.Error{Sentinel: kms.ErrTokenRefused}}, 70},
		{"self-test, token does not answer", &kms.SelfTestError{Cause: &kms.Error{Sentinel: kms.ErrTokenUnavailable}}, 69},
		{"store", &kms.Error{Sentinel: kms.ErrStoreUnavailable}, 74},
		{"store of another schema", &kms.Error{Sentinel: kms.ErrStoreUnavailable, Cause: keystore.ErrOlderSchema}, 78},
		{"store of a later release", &kms.Error{Sentinel: kms.ErrStoreUnavailable, Cause: keystore.ErrNewerSchema}, 78},
		{"another program's database", &kms.Error{Sentinel: kms.ErrStoreUnavailable, Cause: keystore.ErrForeignDatabase}, 78},
		{"data directory", as(errStorage, os.ErrPermission), 74},
		{"data directory locked", as(errInUse, errors.New("x")), 75},
		{"store locked", &kms.Error{Sentinel: kms.ErrStoreLocked}, 75},
		{"audit log locked", as(errStorage, fmt.Errorf("x: %w", syscall.EWOULDBLOCK)), 75},
		{"address in use", fmt.Errorf("listen: %w", os.NewSyscallError("bind", syscall.EADDRINUSE)), 75},
		{"tampered", &kms.Error{Sentinel: kms.ErrTampered}, 76},
		{"older than an anchor", &kms.Error{Sentinel: kms.ErrRolledBack}, 76},
		{"PIN incorrect", fmt.Errorf("login: %w", hsm.ErrPINIncorrect), 77},
		{"PIN locked", hsm.ErrPINLocked, 77},
		{"PIN incorrect at a later login", &kms.Error{Sentinel: kms.ErrTokenUnavailable, Cause: hsm.ErrPINIncorrect}, 77},
		{"configuration", problems{{File: "f", Text: "x"}}, 78},
		{"TLS file", fmt.Errorf("%w: x", authn.ErrTLSFile), 78},
		{"token lacks what is required", hsm.ErrUnsupported, 78},
		{"store of another token", &kms.Error{Sentinel: kms.ErrTokenRefused, Cause: hsm.ErrKeyNotFound}, 78},
		{"logged", loggedError{hsm.ErrPINIncorrect}, 77},
		{"with a failure to close", errors.Join(hsm.ErrPINIncorrect, errors.New("close")), 77},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := exitCodeOf(test.err); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	err := fmt.Errorf("start: %w", &kms.Error{
		Sentinel: kms.ErrStoreUnavailable, Message: "cannot open the store",
		Cause: &kms.Error{Sentinel: kms.ErrTokenUnavailable, Cause: errors.New("disk failure")},
	})
	if got, want := explain(err), "start: cannot open the store: token unavailable: disk failure"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	told := &kms.Error{Sentinel: kms.ErrStoreUnavailable, Message: "no: disk failure", Cause: errors.New("disk failure")}
	if got := explain(told); got != "no: disk failure" {
		t.Errorf("%q says the cause twice", got)
	}
}
