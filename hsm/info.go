package hsm

// Info is what the probe at start found out about module and token.
type Info struct {
	Module        string // real path of the PKCS#11 module
	Library       string // CK_INFO: library description and version
	CryptokiVer   string // CK_INFO: version of the interface, such as "2.40"
	Label         string // CK_TOKEN_INFO, trailing spaces removed, as are the next four
	Serial        string
	Manufacturer  string
	Model         string
	Firmware      string // firmware version, such as "2.6"
	Mechanisms    []string
	MaxBlockBytes int  // most bytes of one EncryptBlocks crossing
	Sessions      int  // size of the session pool
	UsageSwitch   bool // SetUsable works
	LabelSwitch   bool // SetLabel works
	AllowedMechs  bool // CKA_ALLOWED_MECHANISMS is kept and enforced
	SessionKeys   bool // ImportSessionKey works
	TokenNonces   bool // GCM nonces are the token's own choice
	Specs         []KeySpec
	Limitations   []Limitation
}

// Limitation is one thing that this token cannot do and what follows from it, for
// an operator to read.
type Limitation struct {
	Name   string // short and stable, such as "allowed-mechanisms"
	Detail string // a sentence: what is missing, and the consequence
}

// Supports reports whether keys of the given specification can be made and used.
func (i *Info) Supports(spec KeySpec) bool {
	for _, s := range i.Specs {
		if s == spec {
			return true
		}
	}
	return false
}
