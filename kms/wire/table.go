package wire

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/keyholt/keyholt/kms"
)

// Domain is the domain of every google.rpc.ErrorInfo that the service sends.
const Domain = "keyholt"

// Sentinels that only exist on the client's side of the wire.
var (
	// ErrInternal: the service failed in a way that it does not describe. The error's
	// Metadata has "error_id", which the service's log carries too.
	ErrInternal = errors.New("internal error")
	// ErrMalformedResponse: the service's answer breaks the wire contract.
	ErrMalformedResponse = errors.New("malformed response")
)

// Row is one line of the table of errors: what a sentinel becomes on the wire.
type Row struct {
	Sentinel error
	Code     codes.Code
	// Reason is an UPPER_SNAKE_CASE constant, unique in the table, that never changes:
	// programs match on it.
	Reason string
	// When says what has happened, and Advice what the caller should do.
	When, Advice string
	// Retry is how long to wait before the same call is made again; 0: repeating it
	// unchanged does not help, or needs no wait.
	Retry time.Duration
}

// Rows returns the table of errors, in the order in which it is searched.
func Rows() []Row {
	rows := make([]Row, len(table))
	copy(rows, table[:])
	return rows
}

// table is ordered: an error that is none of the domain's own type gets the first row
// whose sentinel it matches.
var table = [...]Row{
	{kms.ErrInvalidRequest, codes.InvalidArgument, "INVALID_REQUEST",
		"A field is missing, out of range, does not parse, or is not known to the service.",
		"Correct the fields that the violations name.", 0},
	{kms.ErrLimitExceeded, codes.InvalidArgument, "LIMIT_EXCEEDED",
		"The request has more items or bytes than the published limit.",
		"Send less at once: split the batch, or encrypt locally with a data key.", 0},
	{kms.ErrMalformedCiphertext, codes.InvalidArgument, "MALFORMED_CIPHERTEXT",
		"The bytes are not a ciphertext of this service: too short, cut off, or of an unknown format; or, of an " +
			"ASYMMETRIC_DECRYPT key, not as long as its modulus.",
		"Check that what was stored is sent back byte for byte.", 0},
	{kms.ErrCiphertextKind, codes.InvalidArgument, "WRONG_CIPHERTEXT_KIND",
		"A wrapped data key was given to Decrypt or ReEncrypt, or encrypted data to UnwrapDataKeys or RewrapDataKeys.",
		"Use the method that belongs to the ciphertext.", 0},
	{kms.ErrDigestLength, codes.InvalidArgument, "WRONG_DIGEST_LENGTH",
		"The digest is not as long as the hash of the key's algorithm makes it. The metadata has the algorithm and the length.",
		"Hash the message with the hash of the key's algorithm, or send the message itself if it has at most 64 KiB.", 0},
	{kms.ErrHashMismatch, codes.InvalidArgument, "DIGEST_MISMATCH",
		"The digest is of another hash than that of the key's algorithm, or the algorithm, as EC_SIGN_ED25519, signs messages " +
			"and takes no digest.",
		"Hash the message with the hash of the key's algorithm; with EC_SIGN_ED25519 send the message itself.", 0},
	{kms.ErrRequestIDReused, codes.InvalidArgument, "REQUEST_ID_REUSED",
		"The request id belongs to an earlier call with other fields.",
		"Use a new request id for a new request.", 0},
	{kms.ErrDecryptionFailed, codes.InvalidArgument, "DECRYPTION_FAILED",
		"Authentication failed: the ciphertext was changed, or the encryption context or additional " +
			"authenticated data differ from those it was made with. Which of them is not told.",
		"Give exactly the context and data of the encryption; check the ciphertext's integrity.", 0},

	{kms.ErrUnauthenticated, codes.Unauthenticated, "UNAUTHENTICATED",
		"The caller has not proved who it is, or its certificate has expired.",
		"Connect with a client certificate that the service trusts, or through its unix socket.", 0},
	{kms.ErrNotAccessible, codes.PermissionDenied, "NOT_ACCESSIBLE",
		"The namespace, key or version does not exist, the ciphertext belongs to another namespace, or the " +
			"caller may not do this. All look the same, so that nothing can be learned.",
		"Check the name and the namespace; ask an administrator for access.", 0},

	{kms.ErrNamespaceNotFound, codes.NotFound, "NAMESPACE_NOT_FOUND",
		"The namespace does not exist.",
		"Check the name, or create the namespace.", 0},
	{kms.ErrKeyNotFound, codes.NotFound, "KEY_NOT_FOUND",
		"The key does not exist.",
		"Check the name, or create the key.", 0},
	{kms.ErrVersionNotFound, codes.NotFound, "KEY_VERSION_NOT_FOUND",
		"The key version does not exist.",
		"List the versions of the key.", 0},
	{kms.ErrNamespaceExists, codes.AlreadyExists, "NAMESPACE_EXISTS",
		"A namespace of that name exists already.",
		"Use it, or choose another name.", 0},
	{kms.ErrKeyExists, codes.AlreadyExists, "KEY_EXISTS",
		"A key of that name exists already; nothing was changed.",
		"Use it, rotate it, or choose another name. To make a repeated call safe give it a request id.", 0},

	{kms.ErrPurpose, codes.FailedPrecondition, "WRONG_KEY_PURPOSE",
		"The key is for another purpose than what was asked of it. The metadata has its purpose and its algorithm.",
		"Use a key of the right purpose: a key never changes its own.", 0},
	{kms.ErrImportJobNotFound, codes.NotFound, "IMPORT_JOB_NOT_FOUND",
		"The import job does not exist.",
		"Check the name, or create the import job.", 0},
	{kms.ErrImportJobExists, codes.AlreadyExists, "IMPORT_JOB_EXISTS",
		"An import job of that name exists already; nothing was changed.",
		"Use it, or choose another name. To make a repeated call safe give it a request id.", 0},
	{kms.ErrWrappedKey, codes.InvalidArgument, "WRAPPED_KEY_REFUSED",
		"The wrapped key does not open with the wrapping key of the import job, or is not of the key's algorithm. What is " +
			"wrong with it is not told.",
		"Wrap the key by the job's method, under its public key: the bytes of a secret key, or the PKCS#8 of a pair.", 0},
	{kms.ErrImportJobExpired, codes.FailedPrecondition, "IMPORT_JOB_EXPIRED",
		"The time of the import job has passed, and its wrapping key is destroyed.",
		"Create another import job, and wrap the key for it.", 0},
	{kms.ErrImportJobUnavailable, codes.FailedPrecondition, "IMPORT_JOB_UNAVAILABLE",
		"The wrapping key of the import job is missing from the HSM, or is not the one that was made for it.",
		"Ask an operator what became of it; create another import job.", 0},

	{kms.ErrKeyMismatch, codes.FailedPrecondition, "KEY_MISMATCH",
		"The ciphertext was made by another key than the request names.",
		"Name the right key, or none.", 0},
	{kms.ErrVersionCreating, codes.FailedPrecondition, "KEY_VERSION_CREATING",
		"The HSM object of the key version is not confirmed yet.",
		"Try again shortly; if it stays so, ask an operator.", time.Second},
	{kms.ErrVersionDisabled, codes.FailedPrecondition, "KEY_VERSION_DISABLED",
		"The key version is disabled. The metadata says since when and why.",
		"Enable the version, or rotate the key.", 0},
	{kms.ErrVersionRevoked, codes.FailedPrecondition, "KEY_VERSION_REVOKED",
		"The key version was revoked and never works again. The metadata says since when and why.",
		"Use another version for what is new; restore from elsewhere what this one protects.", 0},
	{kms.ErrVersionRewrapOnly, codes.FailedPrecondition, "KEY_VERSION_REWRAP_ONLY",
		"The key version is under suspicion: what it protects can be rewrapped inside the service, and nothing else. " +
			"The metadata says since when and why.",
		"Rewrap the data, then use what came out; an operator can enable the version again.", 0},
	{kms.ErrVersionDestroyScheduled, codes.FailedPrecondition, "KEY_VERSION_DESTROY_SCHEDULED",
		"The key version is to be destroyed at a set time, and refuses all use until then. The metadata says when and why.",
		"If it is still needed restore the version before that time.", 0},
	{kms.ErrVersionDestroyed, codes.FailedPrecondition, "KEY_VERSION_DESTROYED",
		"The HSM object of the key version was destroyed. The metadata says when and why.",
		"Use another version for what is new; restore from elsewhere what this one protects.", 0},
	{kms.ErrVersionUnavailable, codes.FailedPrecondition, "KEY_VERSION_UNAVAILABLE",
		"The HSM object of the key version is missing, or is not the one that was made for it.",
		"Ask an operator: the token's contents do not belong to this store.", 0},
	{kms.ErrNoEnabledPrimary, codes.FailedPrecondition, "NO_ENABLED_PRIMARY",
		"The key has no enabled primary version, so nothing new can be protected with it.",
		"Rotate the key, or enable its primary version.", 0},
	{kms.ErrTransition, codes.FailedPrecondition, "STATE_TRANSITION_NOT_ALLOWED",
		"The version's state does not lead to the one asked for.",
		"Read the version; from REVOKED and DESTROYED no state leads back to use.", 0},
	{kms.ErrRotationDue, codes.FailedPrecondition, "ROTATION_DUE",
		"The version is older than the rotation period of its key: were it primary, the service would rotate the key at once.",
		"End or lengthen the rotation period of the key first, or leave the newer version primary.", 0},
	{kms.ErrDataLoss, codes.FailedPrecondition, "DATA_LOSS_NOT_ACCEPTED",
		"The version was used: what it protects is lost when it is revoked or destroyed, and the caller has not " +
			"accepted that.",
		"Rotate and rewrap first, or set data_loss_accepted.", 0},
	{kms.ErrEncryptionLimit, codes.FailedPrecondition, "ENCRYPTION_LIMIT_REACHED",
		"A STRICT key version has made as many ciphertexts as its nonces allow.",
		"Rotate the key.", 0},
	{kms.ErrUnsupported, codes.FailedPrecondition, "UNSUPPORTED_BY_TOKEN",
		"The HSM cannot do it.",
		"Use another algorithm, another protection profile or another HSM; Diagnose tells what this one can do.", 0},
	{kms.ErrTokenRefused, codes.FailedPrecondition, "TOKEN_REFUSED",
		"The HSM forbids this use of the key although the metadata allows it: it was switched off behind the " +
			"service's back.",
		"Ask an operator to find out who did it; disabling and enabling the version switches it on again.", 0},
	{kms.ErrRollbackAccepted, codes.FailedPrecondition, "REFUSED_AFTER_ROLLBACK",
		"The store was once taken back to an older state, so it cannot be told whether an HSM object without a row is " +
			"needed.",
		"Find out by hand what the object is, and destroy it with the HSM's own tools if nothing needs it.", 0},
	{kms.ErrStoreNotEmpty, codes.FailedPrecondition, "STORE_NOT_EMPTY",
		"A backup can be restored only into a store that holds no keys.",
		"Restore it into a new store.", 0},

	{kms.ErrEtagMismatch, codes.Aborted, "ETAG_MISMATCH",
		"The resource has changed since the caller read it; nothing was done.",
		"Read it again, and repeat the change with the new etag.", 0},
	{kms.ErrConflict, codes.Aborted, "CONFLICT",
		"Another change came between; nothing was done.",
		"Repeat the call.", 50 * time.Millisecond},
	{kms.ErrStillSpreading, codes.Aborted, "COMMITTED_STILL_SPREADING",
		"The change is made and stays made; it is not yet known that each replica has applied it or serves nothing. The " +
			"metadata has the revision.",
		"Repeat a change of state, or a call with a request id: it changes nothing more, waits again, and reports. Do not repeat " +
			"the resealing or the restoration of a store: KeyService and ListReplicas show where it stands.", 0},

	{kms.ErrOverloaded, codes.ResourceExhausted, "OVERLOADED",
		"Too much is under way; nothing was begun.",
		"Repeat the call after the delay in RetryInfo, later each time.", 250 * time.Millisecond},
	{kms.ErrTokenUnavailable, codes.Unavailable, "TOKEN_UNAVAILABLE",
		"The HSM does not answer.",
		"Repeat the call; the service reconnects by itself.", time.Second},
	{kms.ErrStoreUnavailable, codes.Unavailable, "STORE_UNAVAILABLE",
		"The metadata store cannot be read or written. A change may or may not have been made.",
		"Repeat the call with the same request id; if it stays so, ask an operator.", time.Second},
	{kms.ErrAuditUnavailable, codes.Unavailable, "AUDIT_UNAVAILABLE",
		"The audit log cannot be written; without it nothing is released.",
		"Repeat the call; if it stays so, ask an operator to look at the log's disk.", time.Second},
	{kms.ErrLeaseLapsed, codes.Unavailable, "LEASE_LAPSED",
		"This replica cannot be sure to know the newest state of the keys, so it serves nothing.",
		"Repeat the call: another replica answers it, or this one when it reaches the store again.", 500 * time.Millisecond},
	{kms.ErrStoreWentBack, codes.Unavailable, "STORE_WENT_BACK",
		"The store is at an earlier state than this replica has seen, as after a fail-over that lost changes. It refuses " +
			"all work.",
		"Ask an operator to bring back the newest state of the store.", 0},
	{kms.ErrShuttingDown, codes.Unavailable, "SHUTTING_DOWN",
		"The service is draining.",
		"Repeat the call: another instance, or the next start, answers it.", time.Second},
	{kms.ErrLeaseGone, codes.Unavailable, "LEASE_GONE",
		"The lease of the replica was taken away.",
		"Repeat the call: the replica joins again by itself.", time.Second},
	{kms.ErrStoreLocked, codes.Unavailable, "STORE_LOCKED",
		"Another process has the store open.",
		"Ask an operator: two services point at one store.", 0},
	{kms.ErrTampered, codes.DataLoss, "METADATA_TAMPERED",
		"A row of the store does not carry the seal it should.",
		"Ask an operator to restore the store from a backup, and to find out who changed it.", 0},
	{kms.ErrRolledBack, codes.DataLoss, "STORE_ROLLED_BACK",
		"The store is older than the newest state that was noted outside of it.",
		"Ask an operator to bring back the newest state, or to accept the loss when the service is started.", 0},

	{context.Canceled, codes.Canceled, "CANCELED",
		"The caller went away before the answer was ready.",
		"None: the caller asked for it.", 0},
	{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED",
		"The deadline passed before the answer was ready. A change may or may not have been made.",
		"Repeat the call with the same request id, and with more time or fewer items.", 0},
	{ErrInternal, codes.Internal, "INTERNAL",
		"An error that the service does not describe to callers.",
		"Give an operator the error_id of the metadata: the service's log carries it.", 0},
}

// rowOf finds the row of an error, and the domain's error if it is one. An error
// without a row has that of ErrInternal, and no domain error.
func rowOf(err error) (*Row, *kms.Error) {
	var e *kms.Error
	if errors.As(err, &e) {
		if row := rowOfSentinel(e.Sentinel); row != nil {
			return row, e
		}
		return internalRow(), nil
	}
	for i := range table {
		if errors.Is(err, table[i].Sentinel) {
			return &table[i], nil
		}
	}
	return internalRow(), nil
}

func rowOfSentinel(sentinel error) *Row {
	for i := range table {
		if table[i].Sentinel == sentinel { //nolint:errorlint // a sentinel itself, never wrapped
			return &table[i]
		}
	}
	return nil
}

func rowOfReason(reason string) *Row {
	for i := range table {
		if table[i].Reason == reason {
			return &table[i]
		}
	}
	return nil
}

func internalRow() *Row { return &table[len(table)-1] }

// Reason is the reason of an error as the wire would carry it, for logs and audit
// records. It is empty for nil.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	row, _ := rowOf(err)
	return row.Reason
}

// Advice says what a caller who got the error should do. It is empty for nil and for
// errors that are not in the table, such as those of the transport.
func Advice(err error) string {
	if err == nil {
		return ""
	}
	row, _ := rowOf(err)
	if row == internalRow() && !errors.Is(err, ErrInternal) {
		return ""
	}
	return row.Advice
}
