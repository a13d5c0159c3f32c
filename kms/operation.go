package kms

// Action is what a principal wants to do; policies and the audit log name it.
type Action string

// The actions.
const (
	ActionCreateNamespace Action = "CreateNamespace"
	ActionGetNamespace    Action = "GetNamespace"
	ActionListNamespaces  Action = "ListNamespaces"
	ActionCreateKey       Action = "CreateKey"
	ActionGetKey          Action = "GetKey"
	ActionListKeys        Action = "ListKeys"
	ActionUpdateKey       Action = "UpdateKey"
	ActionRotateKey       Action = "RotateKey"
	ActionSetPrimary      Action = "SetPrimaryKeyVersion"
	ActionGetVersion      Action = "GetKeyVersion"
	ActionListVersions    Action = "ListKeyVersions"
	ActionEnableVersion   Action = "EnableKeyVersion"
	ActionDisableVersion  Action = "DisableKeyVersion"
	ActionRevokeVersion   Action = "RevokeKeyVersion"
	ActionRestrictVersion Action = "RestrictKeyVersion"
	ActionScheduleVersion Action = "ScheduleKeyVersionDestruction"
	ActionRestoreVersion  Action = "RestoreKeyVersion"
	ActionDestroyVersion  Action = "DestroyKeyVersion" // by the service itself, when the window has passed
	ActionCreateImportJob Action = "CreateImportJob"
	ActionGetImportJob    Action = "GetImportJob"
	ActionListImportJobs  Action = "ListImportJobs"
	ActionImportVersion   Action = "ImportKeyVersion"
	ActionExpireImportJob Action = "ExpireImportJob" // by the service itself, when its time has passed
	ActionEncrypt         Action = "Encrypt"
	ActionDecrypt         Action = "Decrypt"
	ActionBatchEncrypt    Action = "BatchEncrypt"
	ActionBatchDecrypt    Action = "BatchDecrypt"
	ActionReEncryptFrom   Action = "ReEncryptFrom"
	ActionReEncryptTo     Action = "ReEncryptTo"
	ActionGenerateDataKey Action = "GenerateDataKeys"
	ActionWrapDataKey     Action = "WrapDataKeys"
	ActionUnwrapDataKey   Action = "UnwrapDataKeys"
	ActionRewrapDataKey   Action = "RewrapDataKeys"
	ActionGenerateRandom  Action = "GenerateRandom"
	ActionSign            Action = "Sign"
	ActionBatchSign       Action = "BatchSign"
	ActionVerify          Action = "Verify"
	ActionGetPublicKey    Action = "GetPublicKey"
	ActionGenerateMac     Action = "GenerateMac"
	ActionBatchMac        Action = "BatchGenerateMac"
	ActionVerifyMac       Action = "VerifyMac"
	ActionBatchVerifyMac  Action = "BatchVerifyMac"
	ActionAsymDecrypt     Action = "AsymmetricDecrypt"
	ActionDiagnose        Action = "Diagnose"
	ActionListReplicas    Action = "ListReplicas"
	ActionVerifyStore     Action = "VerifyStore"
	ActionResealStore     Action = "ResealStore"
	ActionBackupStore     Action = "BackupStore"
	ActionRestoreStore    Action = "RestoreStore"
	ActionAcceptRollback  Action = "AcceptRollback" // by the operator who starts the service
	ActionListOrphans     Action = "ListOrphans"
	ActionScheduleOrphans Action = "ScheduleOrphanDestruction"
	ActionDestroyOrphan   Action = "DestroyOrphan" // by the service itself
)

// actionRule is one row of the table of actions.
type actionRule struct {
	// changes: the action changes metadata, so its record is made durable before it is
	// answered, whatever the audit log does with other records.
	changes bool
}

// actions is the table of everything that can be done. An action that is not in it
// is refused.
var actions = map[Action]actionRule{
	ActionCreateNamespace: {changes: true},
	ActionGetNamespace:    {},
	ActionListNamespaces:  {},
	ActionCreateKey:       {changes: true},
	ActionGetKey:          {},
	ActionListKeys:        {},
	ActionUpdateKey:       {changes: true},
	ActionRotateKey:       {changes: true},
	ActionSetPrimary:      {changes: true},
	ActionGetVersion:      {},
	ActionListVersions:    {},
	ActionEnableVersion:   {changes: true},
	ActionDisableVersion:  {changes: true},
	ActionRevokeVersion:   {changes: true},
	ActionRestrictVersion: {changes: true},
	ActionScheduleVersion: {changes: true},
	ActionRestoreVersion:  {changes: true},
	ActionDestroyVersion:  {changes: true},
	ActionCreateImportJob: {changes: true},
	ActionGetImportJob:    {},
	ActionListImportJobs:  {},
	ActionImportVersion:   {changes: true},
	ActionExpireImportJob: {changes: true},
	ActionEncrypt:         {},
	ActionDecrypt:         {},
	ActionBatchEncrypt:    {},
	ActionBatchDecrypt:    {},
	ActionReEncryptFrom:   {},
	ActionReEncryptTo:     {},
	ActionGenerateDataKey: {},
	ActionWrapDataKey:     {},
	ActionUnwrapDataKey:   {},
	ActionRewrapDataKey:   {},
	ActionGenerateRandom:  {},
	ActionSign:            {},
	ActionBatchSign:       {},
	ActionVerify:          {},
	ActionGetPublicKey:    {},
	ActionGenerateMac:     {},
	ActionBatchMac:        {},
	ActionVerifyMac:       {},
	ActionBatchVerifyMac:  {},
	ActionAsymDecrypt:     {},
	ActionDiagnose:        {},
	ActionListReplicas:    {},
	ActionVerifyStore:     {},
	ActionResealStore:     {changes: true},
	ActionBackupStore:     {changes: true}, // no change, but what leaves here must be known
	ActionRestoreStore:    {changes: true},
	ActionAcceptRollback:  {changes: true},
	ActionListOrphans:     {},
	ActionScheduleOrphans: {changes: true},
	ActionDestroyOrphan:   {changes: true},
}

// Changes reports whether the action changes metadata, as opposed to reading it or using
// keys.
func (a Action) Changes() bool { return actions[a].changes }
