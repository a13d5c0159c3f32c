package hsmbench

import (
	"fmt"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// Report is what a token was measured to do. Its JSON form is that of kmsd hsm bench.
type Report struct {
	Token   TokenInfo `json:"token"`
	Figures []Figure  `json:"figures"`
	// Leftovers are scratch keys that were in the token before: of a measurement that
	// was killed, or of one that runs now. They are for an operator to destroy.
	Leftovers []Leftover `json:"leftovers"`
}

// Leftover is a scratch key of another measurement.
type Leftover struct {
	UID   string `json:"uid"` // CKA_ID, hexadecimal
	Label string `json:"label"`
}

// The operations that are measured.
const (
	OperationEncryptBlocks = "encrypt_blocks" // hsm.BlockCipher.EncryptBlocks
	OperationSeal          = "gcm_seal"       // hsm.GCM.Seal
	OperationOpen          = "gcm_open"       // hsm.GCM.Open
	OperationRandom        = "random"         // hsm.Random.Random
	OperationSignP256      = "sign_p256"      // hsm.Signer.Sign, ECDSA on P-256
	OperationSignEd25519   = "sign_ed25519"   // the same, Ed25519
	OperationSignRSA2048   = "sign_rsa2048"   // the same, RSA-2048, PKCS #1 v1.5 with SHA-256
	OperationMAC           = "mac_sha256"     // hsm.MAC.MAC, HMAC-SHA-256
	OperationGenerateKey   = "generate_key"   // hsm.Objects.GenerateKey
	OperationDestroyKey    = "destroy_key"    // hsm.Objects.DestroyKey
)

// Operations lists them, in the order in which they are measured.
func Operations() []string {
	return []string{
		OperationEncryptBlocks, OperationSeal, OperationOpen, OperationSignP256, OperationSignEd25519,
		OperationSignRSA2048, OperationMAC, OperationRandom, OperationGenerateKey, OperationDestroyKey,
	}
}

// Figure is one measurement: callers that call the token again and again, each on its
// own, without a pause.
type Figure struct {
	Operation string `json:"operation"`
	// Bytes of one call for encrypt_blocks and random; of one item's plaintext for GCM; of
	// the digest or message for signatures and tags;
	// zero for key operations.
	Bytes int `json:"bytes"`
	// Items of one call: derivations of a key, 32 bytes each, for encrypt_blocks;
	// messages for GCM; else 1.
	Items          int           `json:"items"`
	Callers        int           `json:"callers"` // callers at the same time
	Calls          int64         `json:"calls"`   // measured ones; a warm-up is not
	Elapsed        time.Duration `json:"elapsed_ns"`
	CallsPerSecond float64       `json:"calls_per_second"` // of all callers together
	ItemsPerSecond float64       `json:"items_per_second"`
	P50            time.Duration `json:"p50_ns"` // of the time of one call, to three digits
	P99            time.Duration `json:"p99_ns"`
}

// TokenInfo is [hsm.Info] in its JSON form.
type TokenInfo struct {
	Module         string       `json:"module"`
	Library        string       `json:"library"`
	Cryptoki       string       `json:"cryptoki"`
	Label          string       `json:"label"`
	Serial         string       `json:"serial"`
	Manufacturer   string       `json:"manufacturer"`
	Model          string       `json:"model"`
	Firmware       string       `json:"firmware"`
	Sessions       int          `json:"sessions"`
	MaxBlockBytes  int          `json:"max_block_bytes"`
	UsageSwitch    bool         `json:"usage_switch"`
	LabelSwitch    bool         `json:"label_switch"`
	AllowedMechs   bool         `json:"allowed_mechanisms"`
	SessionKeys    bool         `json:"session_keys"`
	TokenNonces    bool         `json:"token_nonces"`
	Specifications []string     `json:"key_specifications"`
	Schemes        []string     `json:"signature_schemes"`
	OAEP           []string     `json:"oaep_hashes"`
	OAEPLabels     bool         `json:"oaep_labels"`
	Imports        []string     `json:"importable_specifications"`
	ImportHashes   []string     `json:"import_hashes"`
	Limitations    []Limitation `json:"limitations"`
	Mechanisms     []string     `json:"mechanisms"`
}

// Limitation is [hsm.Limitation] in its JSON form.
type Limitation struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

// Describe returns what the probe of a token found.
func Describe(info hsm.Info) TokenInfo {
	t := TokenInfo{
		Module: info.Module, Library: info.Library, Cryptoki: info.CryptokiVer,
		Label: info.Label, Serial: info.Serial, Manufacturer: info.Manufacturer, Model: info.Model, Firmware: info.Firmware,
		Sessions: info.Sessions, MaxBlockBytes: info.MaxBlockBytes,
		UsageSwitch: info.UsageSwitch, LabelSwitch: info.LabelSwitch, AllowedMechs: info.AllowedMechs, SessionKeys: info.SessionKeys,
		TokenNonces:    info.TokenNonces,
		Specifications: names(info.Specs),
		Schemes:        names(info.Schemes),
		OAEP:           names(info.OAEP),
		OAEPLabels:     info.OAEPLabels,
		Imports:        names(info.Imports),
		ImportHashes:   names(info.ImportHashes),
		Limitations:    make([]Limitation, len(info.Limitations)),
		Mechanisms:     info.Mechanisms,
	}
	for i, limitation := range info.Limitations {
		t.Limitations[i] = Limitation(limitation)
	}
	return t
}

// names are never nil: none is an empty list in JSON.
func names[T fmt.Stringer](values []T) []string {
	list := make([]string, len(values))
	for i, value := range values {
		list[i] = value.String()
	}
	return list
}
