package keystore

import (
	"errors"
	"fmt"

	"github.com/keyholt/keyholt/kms"
)

// The sentinel errors of opening a store. Those of its use are sentinels of package
// kms.
var (
	// ErrNewerSchema: a later release has changed the schema of the store. It is the
	// cause of a kms.ErrStoreUnavailable.
	ErrNewerSchema = errors.New("the store's schema is newer than this program")
	// ErrOlderSchema: the store's schema is one of an earlier release. It is the cause
	// of a kms.ErrStoreUnavailable.
	ErrOlderSchema = errors.New("the store's schema is older than this program")
	// ErrForeignDatabase: the database, or the schema of it, is another program's. It is
	// the cause of a kms.ErrStoreUnavailable.
	ErrForeignDatabase = errors.New("the database is another program's")
	// ErrSealKeyUnconfirmed: Database.Store was called before ConfirmSealKey.
	ErrSealKeyUnconfirmed = errors.New("the seal key of the store is not confirmed yet")
)

// unavailable is the error of a database that cannot be read or written.
func unavailable(cause error, format string, args ...any) error {
	return &kms.Error{Sentinel: kms.ErrStoreUnavailable, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// tampered is the error of a row that is not as this service left it. row is the
// resource name of what it describes, or names the table.
func tampered(row, format string, args ...any) error {
	return &kms.Error{
		Sentinel: kms.ErrTampered,
		Message: fmt.Sprintf("metadata was tampered with: %s: %s; find out who can write the store, and restore it from a backup",
			row, fmt.Sprintf(format, args...)),
		Metadata: map[string]string{"row": row},
	}
}

// conflict is the error of a row that is not the one that a change was computed from.
func conflict(row string) error {
	return &kms.Error{
		Sentinel: kms.ErrConflict,
		Message:  row + " was changed by someone else at the same time; try again",
		Metadata: map[string]string{"resource": row},
	}
}
