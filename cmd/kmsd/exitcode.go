package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/keystore"
)

// Errors of the program itself that have an exit code of their own.
var (
	// errUsage: the command line is wrong.
	errUsage = errors.New("usage")
	// errConfiguration: the configuration file, or a file that it names, is wrong.
	errConfiguration = errors.New("configuration")
	// errInUse: another process holds the data directory or a listen address.
	errInUse = errors.New("in use by another process")
	// errStorage: the data directory cannot be made, read or written.
	errStorage = errors.New("storage")
)

// classified gives an error a class, one of those above, without changing its text.
type classified struct {
	error
	class error
}

func (c classified) Is(target error) bool { return target == c.class }
func (c classified) Unwrap() error        { return c.error }

// as returns err with a class.
func as(class, err error) error { return classified{err, class} }

// exitOther is the exit code of a failure that the table does not list.
const exitOther = 1

// exitCode is a row of the table of exit codes. The numbers follow sysexits.h where it
// has a fitting one, so that a supervisor can decide what to retry.
type exitCode struct {
	Code    int
	Name    string // of sysexits.h, or empty
	Meaning string
	Restart bool // whether starting again, unchanged, may help
	errs    []error
	is      func(error) bool // for a class that is a type; may be nil
}

func (c *exitCode) matches(err error) bool {
	return c.is != nil && c.is(err) ||
		slices.ContainsFunc(c.errs, func(target error) bool { return errors.Is(err, target) })
}

func isSelfTest(err error) bool { return errors.As(err, new(*kms.SelfTestError)) }

// exitTable is searched from top to bottom: what must not be retried comes first.
var exitTable = [...]exitCode{
	{Code: 77, Name: "EX_NOPERM", Meaning: "the token refused the PIN, or the PIN is locked: it was tried once",
		errs: []error{hsm.ErrPINIncorrect, hsm.ErrPINLocked}},
	{Code: 76, Name: "EX_PROTOCOL", Meaning: "the metadata was tampered with, or put back to an older state",
		errs: []error{kms.ErrTampered, kms.ErrRolledBack, kms.ErrStoreWentBack}},
	{Code: 75, Name: "EX_TEMPFAIL", Restart: true,
		Meaning: "the data directory, the store, the audit log or a listen address is in use by another process",
		errs:    []error{errInUse, kms.ErrStoreLocked, syscall.EADDRINUSE, syscall.EWOULDBLOCK}}, // a lock that is held
	{Code: 69, Name: "EX_UNAVAILABLE", Restart: true,
		Meaning: "the module or the token was not found or does not answer",
		errs:    []error{hsm.ErrModule, hsm.ErrTokenNotFound, hsm.ErrLoginLost, hsm.ErrUnavailable, kms.ErrTokenUnavailable}},
	{Code: 70, Name: "EX_SOFTWARE", Meaning: "the self-test failed: the token computes something else than it should",
		is: isSelfTest},
	{Code: 78, Name: "EX_CONFIG", Meaning: "the configuration is wrong, or does not fit the token or the store",
		errs: []error{
			errConfiguration, authn.ErrTLSFile, hsm.ErrArgument, hsm.ErrUnsupported, kms.ErrTokenRefused, kms.ErrUnsupported,
			keystore.ErrOlderSchema, keystore.ErrNewerSchema, keystore.ErrForeignDatabase,
		}},
	{Code: 74, Name: "EX_IOERR", Restart: true,
		Meaning: "the data directory, the store or the audit log cannot be read or written",
		errs:    []error{errStorage, kms.ErrStoreUnavailable, kms.ErrAuditUnavailable}},
	{Code: 2, Meaning: "wrong usage of the command line", errs: []error{errUsage}},
	{Code: exitOther, Restart: true, Meaning: "any other failure; the log says which"},
	{Code: 0, Name: "EX_OK", Meaning: "success; so also of serve and dev after SIGTERM or SIGINT"},
}

// exitCodeOf returns the exit code of the program's outcome.
func exitCodeOf(err error) int {
	if err == nil {
		return 0
	}
	for i := range exitTable {
		if exitTable[i].matches(err) {
			return exitTable[i].Code
		}
	}
	return exitOther
}

// exitCodesByNumber returns the table in the order of the codes.
func exitCodesByNumber() []exitCode {
	rows := slices.Clone(exitTable[:])
	slices.SortFunc(rows, func(a, b exitCode) int { return a.Code - b.Code })
	return rows
}

// exitCodeHelp is the table as text, for the help.
func exitCodeHelp() string {
	var b strings.Builder
	for _, row := range exitCodesByNumber() {
		_, _ = fmt.Fprintf(&b, "  %2d  %s", row.Code, row.Meaning)
		if row.Code != 0 && !row.Restart {
			b.WriteString(" (do not restart)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// explain is the error with the causes that the domain's errors keep from callers: it
// is for the operator.
func explain(err error) string {
	text := err.Error()
	var e *kms.Error
	for errors.As(err, &e) && e.Cause != nil {
		if cause := e.Cause.Error(); !strings.Contains(text, cause) {
			text += ": " + cause
		}
		err = e.Cause
	}
	return text
}
