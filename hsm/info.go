package hsm

import (
	"crypto"
	"slices"
)

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
	MaxBlockBytes int           // most bytes of one EncryptBlocks crossing
	Sessions      int           // size of the session pool
	UsageSwitch   bool          // SetUsable works
	LabelSwitch   bool          // SetLabel works
	AllowedMechs  bool          // CKA_ALLOWED_MECHANISMS is kept and enforced
	SessionKeys   bool          // ImportSessionKey works
	TokenNonces   bool          // GCM nonces are the token's own choice
	Specs         []KeySpec     // keys that can be made and used
	Schemes       []Scheme      // signature schemes that keys of those Specs can sign with
	OAEP          []crypto.Hash // hashes that DecryptOAEP takes
	OAEPLabels    bool          // DecryptOAEP takes labels that are not empty
	Imports       []KeySpec     // keys that UnwrapKey can bring in
	ImportHashes  []crypto.Hash // hashes of RSA-OAEP that UnwrapKey takes
	Limitations   []Limitation
}

// Limitation is one thing that this token cannot do and what follows from it, for
// an operator to read.
type Limitation struct {
	Name   string // short and stable, such as "allowed-mechanisms"
	Detail string // a sentence: what is missing, and the consequence
}

// Supports reports whether keys of the given specification can be made and used.
func (i *Info) Supports(spec KeySpec) bool { return slices.Contains(i.Specs, spec) }

// Signs reports whether keys of the given specification can be made and sign with the
// scheme.
func (i *Info) Signs(spec KeySpec, scheme Scheme) bool {
	return i.Supports(spec) && spec.Has(scheme) && slices.Contains(i.Schemes, scheme)
}

// Decrypts reports whether RSA-OAEP with the hash can be decrypted.
func (i *Info) Decrypts(hash crypto.Hash) bool { return slices.Contains(i.OAEP, hash) }

// CanImport reports whether keys of the given specification can be brought in.
func (i *Info) CanImport(spec KeySpec) bool { return slices.Contains(i.Imports, spec) }

// Clone returns a copy that shares no memory with i.
func (i *Info) Clone() Info {
	c := *i
	c.Mechanisms, c.Specs, c.Schemes = slices.Clone(i.Mechanisms), slices.Clone(i.Specs), slices.Clone(i.Schemes)
	c.OAEP, c.Imports = slices.Clone(i.OAEP), slices.Clone(i.Imports)
	c.ImportHashes, c.Limitations = slices.Clone(i.ImportHashes), slices.Clone(i.Limitations)
	return c
}
