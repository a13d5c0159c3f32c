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
	ActionGetVersion      Action = "GetKeyVersion"
	ActionListVersions    Action = "ListKeyVersions"
	ActionEnableVersion   Action = "EnableKeyVersion"
	ActionDisableVersion  Action = "DisableKeyVersion"
	ActionRevokeVersion   Action = "RevokeKeyVersion"
	ActionEncrypt         Action = "Encrypt"
	ActionDecrypt         Action = "Decrypt"
	ActionReEncryptFrom   Action = "ReEncryptFrom"
	ActionReEncryptTo     Action = "ReEncryptTo"
	ActionGenerateDataKey Action = "GenerateDataKeys"
	ActionWrapDataKey     Action = "WrapDataKeys"
	ActionUnwrapDataKey   Action = "UnwrapDataKeys"
	ActionRewrapDataKey   Action = "RewrapDataKeys"
	ActionGenerateRandom  Action = "GenerateRandom"
	ActionDiagnose        Action = "Diagnose"
)

// actionRule is one row of the table of actions.
type actionRule struct {
	// control: it changes metadata or reads it, and one record tells all of it;
	// else it is a data operation with an outcome per item.
	control bool
}

// actions is the table of everything that can be done. An action that is not in it
// is refused.
var actions = map[Action]actionRule{
	ActionCreateNamespace: {control: true},
	ActionGetNamespace:    {control: true},
	ActionListNamespaces:  {control: true},
	ActionCreateKey:       {control: true},
	ActionGetKey:          {control: true},
	ActionListKeys:        {control: true},
	ActionUpdateKey:       {control: true},
	ActionRotateKey:       {control: true},
	ActionGetVersion:      {control: true},
	ActionListVersions:    {control: true},
	ActionEnableVersion:   {control: true},
	ActionDisableVersion:  {control: true},
	ActionRevokeVersion:   {control: true},
	ActionGenerateRandom:  {control: true},
	ActionDiagnose:        {control: true},
	ActionEncrypt:         {},
	ActionDecrypt:         {},
	ActionReEncryptFrom:   {},
	ActionReEncryptTo:     {},
	ActionGenerateDataKey: {},
	ActionWrapDataKey:     {},
	ActionUnwrapDataKey:   {},
	ActionRewrapDataKey:   {},
}

// Control reports whether the action is a control operation: one that manages keys or
// reads about them, as opposed to using them.
func (a Action) Control() bool { return actions[a].control }
