package kms

import (
	"context"
	"io"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// The published limits. A configuration may lower them, never raise them.
const (
	// MaxItems is the most items of one request.
	MaxItems = 4096
	// MaxBatchPlaintext is the most bytes of plaintext in one BatchEncrypt or
	// BatchDecrypt, all items together: with all that is around it, it fits a message.
	MaxBatchPlaintext = 2 << 20
	// MaxMessage is the most bytes of a message that Sign, Verify, GenerateMac and VerifyMac
	// take. Larger ones are hashed by the caller, and their digest signed.
	MaxMessage = 64 << 10
	// MaxBatchMessages is the most bytes of digests and messages in one BatchSign,
	// BatchGenerateMac or BatchVerifyMac, all items together.
	MaxBatchMessages = 2 << 20
	// MaxSignature is the most bytes of a signature or tag to be verified; the largest real
	// one, of RSA-4096, has 512.
	MaxSignature = 1024
	// MaxRandom is the most bytes of one GenerateRandom.
	MaxRandom = 64 << 10
	// MaxReason is the most bytes of a reason.
	MaxReason = 1024
	// MaxLabels is the most labels of a key.
	MaxLabels = 64
	// DefaultPageSize and MaxPageSize bound the pages of lists.
	DefaultPageSize = 100
	MaxPageSize     = 1000
	// MinRotationPeriod is the shortest rotation period.
	MinRotationPeriod = time.Second
)

// API is all that a principal can ask of the service, in domain terms. [Service]
// implements it; package client implements it over the wire, so that one contract
// suite (package kmstest) runs on both. It has as many methods as the wire contract:
// the one interface of that size.
//
// Names in requests are parsed; zero names are refused as missing. Errors are [*Error]
// or a context's error. Slices of a request are not kept after the call returns, and
// those of a response belong to the caller.
type API interface {
	CreateNamespace(ctx context.Context, p Principal, name NamespaceName) (*Namespace, error)
	GetNamespace(ctx context.Context, p Principal, name NamespaceName) (*Namespace, error)
	ListNamespaces(ctx context.Context, p Principal, page Page) (*NamespaceList, error)

	CreateKey(ctx context.Context, p Principal, r *CreateKeyRequest) (*KeyInfo, error)
	GetKey(ctx context.Context, p Principal, name KeyName) (*KeyInfo, error)
	ListKeys(ctx context.Context, p Principal, parent NamespaceName, page Page) (*KeyList, error)
	UpdateKey(ctx context.Context, p Principal, r *UpdateKeyRequest) (*KeyInfo, error)
	RotateKey(ctx context.Context, p Principal, r *RotateKeyRequest) (*RotateKeyResult, error)
	SetPrimaryKeyVersion(ctx context.Context, p Principal, r *SetPrimaryRequest) (*SetPrimaryResult, error)

	GetKeyVersion(ctx context.Context, p Principal, name VersionName) (*VersionInfo, error)
	ListKeyVersions(ctx context.Context, p Principal, parent KeyName, page Page) (*VersionList, error)
	EnableKeyVersion(ctx context.Context, p Principal, name VersionName, reason string) (*StateChange, error)
	DisableKeyVersion(ctx context.Context, p Principal, name VersionName, reason string) (*StateChange, error)
	RestrictKeyVersion(ctx context.Context, p Principal, name VersionName, reason string) (*StateChange, error)
	RevokeKeyVersion(ctx context.Context, p Principal, r *RevokeRequest) (*StateChange, error)
	ScheduleKeyVersionDestruction(ctx context.Context, p Principal, r *DestructionRequest) (*StateChange, error)
	RestoreKeyVersion(ctx context.Context, p Principal, name VersionName, reason string) (*StateChange, error)

	CreateImportJob(ctx context.Context, p Principal, r *CreateImportJobRequest) (*ImportJob, error)
	GetImportJob(ctx context.Context, p Principal, name ImportJobName) (*ImportJob, error)
	ListImportJobs(ctx context.Context, p Principal, parent NamespaceName, page Page) (*ImportJobList, error)
	ImportKeyVersion(ctx context.Context, p Principal, r *ImportKeyVersionRequest) (*ImportKeyVersionResult, error)

	Encrypt(ctx context.Context, p Principal, r *EncryptRequest) (*EncryptResult, error)
	Decrypt(ctx context.Context, p Principal, r *DecryptRequest) (*DecryptResult, error)
	ReEncrypt(ctx context.Context, p Principal, r *ReEncryptRequest) (*ReEncryptResult, error)
	BatchEncrypt(ctx context.Context, p Principal, r *BatchEncryptRequest) ([]PayloadResult, error)
	BatchDecrypt(ctx context.Context, p Principal, r *BatchDecryptRequest) ([]PayloadResult, error)
	GenerateDataKeys(ctx context.Context, p Principal, r *GenerateDataKeysRequest) ([]DataKeyResult, error)
	WrapDataKeys(ctx context.Context, p Principal, r *WrapDataKeysRequest) ([]DataKeyResult, error)
	UnwrapDataKeys(ctx context.Context, p Principal, r *UnwrapDataKeysRequest) ([]DataKeyResult, error)
	RewrapDataKeys(ctx context.Context, p Principal, r *RewrapDataKeysRequest) ([]DataKeyResult, error)
	GenerateRandom(ctx context.Context, p Principal, size int) (Secret, error)

	Sign(ctx context.Context, p Principal, r *SignRequest) (*SignResult, error)
	BatchSign(ctx context.Context, p Principal, r *BatchSignRequest) ([]SignResult, error)
	Verify(ctx context.Context, p Principal, r *VerifyRequest) (*VerifyResult, error)
	GetPublicKey(ctx context.Context, p Principal, r *GetPublicKeyRequest) (*PublicKey, error)
	GenerateMac(ctx context.Context, p Principal, r *GenerateMacRequest) (*MacResult, error)
	BatchGenerateMac(ctx context.Context, p Principal, r *BatchGenerateMacRequest) ([]MacResult, error)
	VerifyMac(ctx context.Context, p Principal, r *VerifyMacRequest) (*VerifyMacResult, error)
	BatchVerifyMac(ctx context.Context, p Principal, r *BatchVerifyMacRequest) ([]VerifyMacResult, error)
	AsymmetricDecrypt(ctx context.Context, p Principal, r *AsymmetricDecryptRequest) (*AsymmetricDecryptResult, error)

	Diagnose(ctx context.Context, p Principal) ([]Finding, error)
	ListReplicas(ctx context.Context, p Principal) ([]*ReplicaInfo, error)
	VerifyStore(ctx context.Context, p Principal) (*StoreReport, error)
	ResealStore(ctx context.Context, p Principal, reason string) (*StoreReport, error)
	BackupStore(ctx context.Context, p Principal, w io.Writer) (*StoreReport, error)
	RestoreStore(ctx context.Context, p Principal, r *RestoreStoreRequest) (*StoreReport, error)
	ListOrphans(ctx context.Context, p Principal) ([]*OrphanInfo, error)
	ScheduleOrphanDestruction(ctx context.Context, p Principal, r *OrphanDestructionRequest) ([]*OrphanInfo, error)
}

// Page asks for part of a list.
type Page struct {
	Size  int    // 0: DefaultPageSize; more than MaxPageSize is MaxPageSize; negative is refused
	Token string // of the response before; empty: from the start
}

// NamespaceList is a page of namespaces by name.
type NamespaceList struct {
	Namespaces []*Namespace
	NextToken  string // empty: the last page
}

// KeyInfo is a key with what is told beside it.
type KeyInfo struct {
	Key
	PrimaryState State // of the primary version
	VersionCount int
	RotateTime   time.Time // when the primary version was created
}

// KeyList is a page of keys by name.
type KeyList struct {
	Keys      []*KeyInfo
	NextToken string // empty: the last page
}

// VersionInfo is a key version with what is told beside it.
type VersionInfo struct {
	Version
	Algorithm Algorithm // of its key
	Primary   bool
	// Unavailable says why the version cannot be used although its state allows it;
	// empty if it can.
	Unavailable string
	// Host is what the host reports of the version's token object; nil in lists, and after
	// changes.
	Host *HostReport
	// Usage is how often the version was used, by action, in order of the actions' names.
	// It may lack what was done in the last flush interval.
	Usage []UsageCount
}

// HostReport is what the host says that the token says, now, of a version's token object
// and of itself. It is a report and no proof: a host that is compromised can say anything.
type HostReport struct {
	// Attributes of the object. Problem says why there are none, if not empty.
	Attributes ObjectAttributes
	Usable     bool // the usage attributes are on
	Problem    string

	Module       string // real path of the PKCS#11 module
	Library      string // its description and version
	Label        string // of the token, as are the next four
	Serial       string
	Manufacturer string
	Model        string
	Firmware     string
}

// VersionList is a page of versions by number.
type VersionList struct {
	Versions  []*VersionInfo
	NextToken string // empty: the last page
}

// CreateKeyRequest asks for a key and its first version. A zero Purpose is that of the
// Algorithm, and ENCRYPT_DECRYPT if that is zero, too. A zero Algorithm is the purpose's
// default (Purpose.DefaultAlgorithm); ASYMMETRIC_DECRYPT has none. Only ENCRYPT_DECRYPT keys
// have a Profile, by default DERIVED.
type CreateKeyRequest struct {
	Name           KeyName
	Purpose        Purpose
	Algorithm      Algorithm
	Profile        Profile
	Labels         map[string]string
	RotationPeriod time.Duration // 0: by hand only
	RequestID      string        // a UUID, or empty
}

// UpdateKeyRequest asks for changes of a key; nil fields stay as they are.
type UpdateKeyRequest struct {
	Name           KeyName
	Labels         *map[string]string
	RotationPeriod *time.Duration
	Etag           string // empty: whatever it is now
}

// RotateKeyRequest asks for a new primary version.
type RotateKeyRequest struct {
	Name      KeyName
	RequestID string // a UUID, or empty
	// RestrictPrevious is for a compromise: each older version that is ENABLED becomes
	// REWRAP_ONLY in the same change. Reason is then required.
	RestrictPrevious bool
	Reason           string
}

// RotateKeyResult is the new primary version and its key.
type RotateKeyResult struct {
	Version    *VersionInfo
	Key        *KeyInfo
	Restricted []*VersionInfo // by RestrictPrevious
	Spread     Spread
}

// DestructionRequest asks for the destruction of a key version's token object.
type DestructionRequest struct {
	Name   VersionName
	Reason string        // required
	Window time.Duration // until the destruction; 0: the configured default
	// DataLossAccepted is required if the version was ever used.
	DataLossAccepted bool
}

// RevokeRequest asks for the end of a key version.
type RevokeRequest struct {
	Name             VersionName
	Reason           string // required
	DataLossAccepted bool   // required if the version was ever used
}

// StateChange is a version after a change of its state.
type StateChange struct {
	Version *VersionInfo
	Switch  TokenSwitch
	Spread  Spread
}

// Spread says how a change came to be known: when the call returned, each replica had
// either applied it or was seen to hold no lease, and so to serve nothing.
type Spread struct {
	Revision     Revision
	Acknowledged []string // names of the replicas that have applied it, this one included
	Expired      []string // names of the replicas that hold no lease
	Took         time.Duration
}

// ReplicaInfo is a replica as its lease row shows it.
type ReplicaInfo struct {
	Lease
	Self bool
	// Lag is by how many revisions its applied one is behind the store's.
	Lag uint64
	// Live: its counter has moved within its lease while this replica watched. Idle is
	// how long the counter has stood still, as far as this replica knows.
	Live bool
	Idle time.Duration
}

// StoreReport is what the store holds.
type StoreReport struct {
	StoreID  string
	Revision Revision
	SealKey  hsm.UID
	// Rows that were read, verified, sealed, written or restored, by kind: "namespaces",
	// "keys", "versions", "orphans", "import_jobs", "origin", "reservations".
	Rows map[string]int
	// Problems are what VerifyStore has found wrong; empty: nothing.
	Problems []string
	Spread   Spread // of a change
}

// RestoreStoreRequest asks for the restoration of a backup into a store without keys.
type RestoreStoreRequest struct {
	Backup io.Reader
	Reason string // required
	// AcceptRollback allows a backup that is older than the newest state of its store
	// that the token remembers.
	AcceptRollback bool
}

// OrphanInfo is a token object of this store that no key version names.
type OrphanInfo struct {
	UID         hsm.UID
	Label       string
	Spec        hsm.KeySpec
	DestroyTime time.Time // zero: its destruction is not scheduled
}

// OrphanDestructionRequest asks for the destruction of orphans after a window.
type OrphanDestructionRequest struct {
	UIDs   []hsm.UID     // empty: all
	Window time.Duration // 0: the configured default
	Reason string        // required
}

// TokenSwitch says what became of the usage attributes of the token object.
type TokenSwitch uint8

// The outcomes. The zero value is none of them.
const (
	SwitchDone        TokenSwitch = 1 // as the state wants them
	SwitchUnsupported TokenSwitch = 2 // the module cannot change them
	SwitchFailed      TokenSwitch = 3 // the token did not do it; tried again at the next start
)

// Binding is what a ciphertext is bound to.
type Binding struct {
	Context map[string]string // encryption context: authenticated, and logged
	AAD     []byte            // additional authenticated data: opaque, never logged
}

// EncryptRequest asks for the encryption of up to 64 KiB.
type EncryptRequest struct {
	Key       KeyName
	Plaintext Secret
	Binding   Binding
}

// EncryptResult is a ciphertext and the version that made it.
type EncryptResult struct {
	Ciphertext []byte
	Version    VersionName
}

// DecryptRequest asks for the plaintext of what Encrypt made.
type DecryptRequest struct {
	Parent     NamespaceName
	Key        KeyName // that must have made it; zero: any of Parent
	Ciphertext []byte
	Binding    Binding
}

// DecryptResult is a plaintext and the version that had made its ciphertext.
type DecryptResult struct {
	Plaintext Secret
	Version   VersionName
}

// ReEncryptRequest asks for a ciphertext of the same plaintext under another key,
// version or binding.
type ReEncryptRequest struct {
	Parent      NamespaceName
	SourceKey   KeyName // that must have made it; zero: any of Parent
	Ciphertext  []byte
	Source      Binding
	Key         KeyName  // to encrypt under; zero: the one that made the ciphertext
	Destination *Binding // nil: as the source
}

// ReEncryptResult is the new ciphertext and both versions.
type ReEncryptResult struct {
	Ciphertext []byte
	Source     VersionName
	Version    VersionName
}

// BatchEncryptRequest asks for the encryption of many small payloads.
type BatchEncryptRequest struct {
	Parent  NamespaceName
	Key     KeyName // for items that name none
	Items   []PayloadItem
	Binding Binding // for items that have none
}

// BatchDecryptRequest asks for the plaintexts of many ciphertexts.
type BatchDecryptRequest struct {
	Parent  NamespaceName
	Key     KeyName // expected of items that name none; zero: any of Parent
	Items   []PayloadItem
	Binding Binding // for items that have none
}

// PayloadItem is one payload of a batch.
type PayloadItem struct {
	Plaintext  Secret  // BatchEncrypt
	Ciphertext []byte  // BatchDecrypt
	Key        KeyName // replaces the request's
	Binding    *Binding
	// Invalid is as in DataKeyItem.
	Invalid error
}

// PayloadResult is the outcome of one payload of a batch, in the order of the request.
type PayloadResult struct {
	Plaintext  Secret      // BatchDecrypt
	Ciphertext []byte      // BatchEncrypt
	Version    VersionName // that made the ciphertext
	Err        error       // nil if the item succeeded; else the other fields but Version are zero
}

// GenerateDataKeysRequest asks for new data keys under one key.
type GenerateDataKeysRequest struct {
	Key              KeyName
	Count            int // 1 to MaxItems; 0 means 1
	Size             int // bytes, 16 to 64; 0 means 32
	WithoutPlaintext bool
	Binding          Binding
}

// WrapDataKeysRequest asks for data keys of the caller to be wrapped.
type WrapDataKeysRequest struct {
	Parent  NamespaceName
	Key     KeyName // for items that name none
	Items   []DataKeyItem
	Binding Binding // for items that have none
}

// UnwrapDataKeysRequest asks for the data keys inside wrapped ones.
type UnwrapDataKeysRequest struct {
	Parent          NamespaceName
	Key             KeyName // expected of items that name none; zero: any of Parent
	Items           []DataKeyItem
	Binding         Binding // for items that have none
	RewrapToPrimary bool
}

// RewrapDataKeysRequest asks for wrapped data keys to be wrapped again under the
// primary version of their key, with the same binding.
type RewrapDataKeysRequest struct {
	Parent  NamespaceName
	Key     KeyName // expected of items that name none; zero: any of Parent
	Items   []DataKeyItem
	Binding Binding // for items that have none
}

// DataKeyItem is one data key of a batch.
type DataKeyItem struct {
	DataKey Secret  // WrapDataKeys: the key, 16 to 64 bytes
	Wrapped []byte  // UnwrapDataKeys, RewrapDataKeys: the wrapped key
	Key     KeyName // replaces the request's
	Binding *Binding
	// Invalid is set by whoever parsed the item and found it malformed: the item fails
	// with this error, its neighbours do not.
	Invalid error
}

// DataKeyResult is the outcome of one item of a batch, in the order of the request.
type DataKeyResult struct {
	DataKey Secret      // GenerateDataKeys (unless asked for without), UnwrapDataKeys
	Wrapped []byte      // GenerateDataKeys, WrapDataKeys, RewrapDataKeys; UnwrapDataKeys: the rewrap, if one was made
	Version VersionName // that wrapped the item given, or made the new one
	Target  VersionName // RewrapDataKeys, and UnwrapDataKeys with a rewrap: the version of Wrapped
	// RewrapErr says why a rewrap that was asked for was not made, though the unwrap succeeded.
	RewrapErr error
	// Err is nil if the item succeeded; else the other fields but Version are zero.
	Err error
}
