package kms

// GenerateMacRequest asks for the tag of a message under a MAC key.
type GenerateMacRequest struct {
	Key     KeyName // its primary version; or
	Version VersionName
	Message []byte // 1 to MaxMessage bytes
}

// MacResult is a tag and the version that made it. A tag is never truncated.
type MacResult struct {
	Mac       []byte
	Version   VersionName
	Algorithm Algorithm
	// Err is for results of BatchGenerateMac: nil if the item succeeded; else the other
	// fields but Version are zero.
	Err error
}

// BatchGenerateMacRequest asks for many tags.
type BatchGenerateMacRequest struct {
	Parent NamespaceName
	// Key or Version, at most one: for items that name none.
	Key     KeyName
	Version VersionName
	Items   []MacItem
}

// VerifyMacRequest asks whether a tag is that of a message. Who verifies what an older
// version has made names the version: a tag does not tell it.
type VerifyMacRequest struct {
	Key     KeyName // its primary version; or
	Version VersionName
	Message []byte
	Mac     []byte // 1 to MaxSignature bytes
}

// VerifyMacResult tells whether a tag is that of a message, whole: a truncated one is not.
type VerifyMacResult struct {
	Valid     bool
	Version   VersionName
	Algorithm Algorithm
	// Err is for results of BatchVerifyMac: nil if the tag could be examined, whatever came
	// of it; else the other fields but Version are zero.
	Err error
}

// BatchVerifyMacRequest asks of many tags whether they are those of their messages.
type BatchVerifyMacRequest struct {
	Parent NamespaceName
	// Key or Version, at most one: for items that name none.
	Key     KeyName
	Version VersionName
	Items   []MacItem
}

// MacItem is one tag of a batch.
type MacItem struct {
	Key     KeyName // replaces the request's, as does
	Version VersionName
	Message []byte
	Mac     []byte // BatchVerifyMac: to be verified
	// Invalid is as in DataKeyItem.
	Invalid error
}
