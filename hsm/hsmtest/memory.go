package hsmtest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/keyholt/keyholt/hsm"
)

// DefaultMaxBlockBytes is the MaxBlockBytes of a [Memory] that sets none.
const DefaultMaxBlockBytes = 32768

// MemoryConfig says what an in-memory token can do. The zero value can do everything.
type MemoryConfig struct {
	// Label is the token's label; "memory" if empty.
	Label string
	// MaxBlockBytes is the most bytes of one crossing, a multiple of 16;
	// DefaultMaxBlockBytes if zero.
	MaxBlockBytes int
	// NonceSize is the size of the GCM nonces that the token insists on choosing
	// itself: 12 or 16. Zero: nonces are 12 bytes and not the token's choice.
	NonceSize int
	// Specs are the key specifications that the token supports; all if nil.
	Specs []hsm.KeySpec
	// RSAKeys are the RSA keys that the token generates; new ones if nil.
	RSAKeys *RSAKeys
	// NoOAEPSHA256: RSA-OAEP, also of imports, is limited to SHA-1 and empty labels.
	NoOAEPSHA256 bool
	// NoImport: UnwrapKey is unsupported, and so are the keys for it.
	NoImport bool
	// NoUsageSwitch: SetUsable is unsupported.
	NoUsageSwitch bool
	// NoLabelSwitch: SetLabel is unsupported.
	NoLabelSwitch bool
	// NoSessionKeys: ImportSessionKey is unsupported.
	NoSessionKeys bool
	// NoAllowedMechanisms: objects carry no list of allowed mechanisms.
	NoAllowedMechanisms bool
}

// Memory is the state of a token that lives in memory: its key objects. Open
// gives logins to it. All methods may be called concurrently.
type Memory struct {
	info hsm.Info
	cfg  MemoryConfig

	mu      sync.RWMutex // held for reading while a key computes
	objects map[hsm.UID]*memoryKey

	rsaMade atomic.Int64 // RSA keys generated
}

// NewMemory returns an empty token. It panics if the configuration contradicts
// itself, which is a mistake in the test.
func NewMemory(cfg MemoryConfig) *Memory {
	if cfg.Label == "" {
		cfg.Label = "memory"
	}
	if cfg.MaxBlockBytes == 0 {
		cfg.MaxBlockBytes = DefaultMaxBlockBytes
	}
	if cfg.MaxBlockBytes < hsm.BlockSize || cfg.MaxBlockBytes%hsm.BlockSize != 0 {
		panic(fmt.Sprintf("hsmtest: MaxBlockBytes %d is no positive multiple of 16", cfg.MaxBlockBytes))
	}
	if cfg.NonceSize != 0 && cfg.NonceSize != 12 && cfg.NonceSize != 16 {
		panic(fmt.Sprintf("hsmtest: NonceSize %d is neither 12 nor 16", cfg.NonceSize))
	}
	if cfg.Specs == nil {
		cfg.Specs = hsm.KeySpecs()
	}
	if cfg.NoImport {
		cfg.Specs = slices.DeleteFunc(slices.Clone(cfg.Specs), isImport)
	}
	return &Memory{cfg: cfg, info: memoryInfo(cfg), objects: make(map[hsm.UID]*memoryKey)}
}

// memoryInfo is what a probe of such a token would find.
func memoryInfo(cfg MemoryConfig) hsm.Info {
	info := hsm.Info{
		Module: "memory", Library: "hsmtest in-memory token", CryptokiVer: "2.40",
		Label: cfg.Label, Serial: "0000000000000001", Manufacturer: "Keyholt", Model: "memory", Firmware: "1.0",
		Mechanisms:    []string{"CKM_AES_KEY_GEN"},
		MaxBlockBytes: cfg.MaxBlockBytes,
		Sessions:      1,
		UsageSwitch:   !cfg.NoUsageSwitch,
		LabelSwitch:   !cfg.NoLabelSwitch,
		AllowedMechs:  !cfg.NoAllowedMechanisms,
		SessionKeys:   !cfg.NoSessionKeys,
		TokenNonces:   cfg.NonceSize != 0,
		Specs:         cfg.Specs,
	}
	decrypts, imports := false, false
	for _, spec := range cfg.Specs {
		info.Mechanisms = append(info.Mechanisms, mechanisms(spec)...)
		for _, scheme := range spec.Schemes() {
			if !slices.Contains(info.Schemes, scheme) {
				info.Schemes = append(info.Schemes, scheme)
			}
		}
		decrypts = decrypts || spec.Usage() == hsm.UsageDecrypt
		imports = imports || spec.Usage() == hsm.UsageImport
	}
	slices.Sort(info.Mechanisms)
	info.Mechanisms = slices.Compact(info.Mechanisms)
	hashes := hsm.OAEPHashes()
	if cfg.NoOAEPSHA256 {
		hashes = hashes[:1]
	}
	if decrypts {
		info.OAEP, info.OAEPLabels = hashes, !cfg.NoOAEPSHA256
	}
	if imports {
		info.ImportHashes = hashes
		info.Imports = slices.DeleteFunc(slices.Clone(cfg.Specs), isImport)
	}
	limit := func(missing bool, name, detail string) {
		if missing {
			info.Limitations = append(info.Limitations, hsm.Limitation{Name: name, Detail: detail})
		}
	}
	limit(cfg.NoUsageSwitch, "usage-switch", "Usage attributes cannot be changed.")
	limit(cfg.NoLabelSwitch, "label-switch", "Labels cannot be changed.")
	limit(cfg.NoSessionKeys, "session-keys", "Known keys cannot be imported as session objects.")
	limit(cfg.NoAllowedMechanisms, "allowed-mechanisms", "Keys cannot be bound to one mechanism.")
	return info
}

func isImport(spec hsm.KeySpec) bool { return spec.Usage() == hsm.UsageImport }

// mechanisms names what a key of the specification may do.
func mechanisms(spec hsm.KeySpec) []string {
	switch spec.Usage() {
	case hsm.UsageBlocks:
		return []string{"CKM_AES_ECB"}
	case hsm.UsageGCM:
		return []string{"CKM_AES_GCM"}
	case hsm.UsageMAC:
		return []string{fmt.Sprintf("CKM_SHA%d_HMAC", 8*spec.Size())}
	case hsm.UsageDecrypt, hsm.UsageImport:
		return []string{"CKM_RSA_PKCS_OAEP"}
	case hsm.UsageSign:
		switch {
		case spec.IsRSA():
			return []string{"CKM_RSA_PKCS", "CKM_RSA_PKCS_PSS"}
		case spec == hsm.Ed25519:
			return []string{"CKM_EDDSA"}
		default:
			return []string{"CKM_ECDSA"}
		}
	default:
		return nil
	}
}

// Open logs in to the token. Closing what it returns leaves the objects in place.
func (m *Memory) Open() *MemoryToken {
	return &MemoryToken{memory: m, sessionKeys: make(map[hsm.UID]*memoryKey)}
}

// object reports a key as the token describes it. The caller holds m.mu.
func (m *Memory) object(uid hsm.UID, k *memoryKey) hsm.Object {
	o := hsm.Object{
		UID: uid, Label: k.label, Spec: k.spec, Usable: k.usable,
		Sensitive: true, AlwaysSensitive: k.local, NeverExtractable: k.local, Local: k.local,
		Modifiable: true,
		Attributes: hsm.Attributes{
			Sensitive: hsm.ReportedTrue, Extractable: hsm.ReportedFalse, Modifiable: hsm.ReportedTrue,
			Copyable: hsm.ReportedFalse, Private: hsm.ReportedTrue,
			Local: hsm.ReportOf(k.local), AlwaysSensitive: hsm.ReportOf(k.local), NeverExtractable: hsm.ReportOf(k.local),
		},
	}
	if k.local {
		o.Attributes.KeyGenMechanism = generationMechanism(k.spec)
	}
	if !m.cfg.NoAllowedMechanisms {
		o.Mechanisms = mechanisms(k.spec)
	}
	return o
}

// generationMechanism names how keys of the specification are made.
func generationMechanism(spec hsm.KeySpec) string {
	switch {
	case spec.IsRSA():
		return "CKM_RSA_PKCS_KEY_PAIR_GEN"
	case spec == hsm.Ed25519:
		return "CKM_EC_EDWARDS_KEY_PAIR_GEN"
	case spec.IsPair():
		return "CKM_EC_KEY_PAIR_GEN"
	case spec.Usage() == hsm.UsageMAC:
		return "CKM_GENERIC_SECRET_KEY_GEN"
	default:
		return "CKM_AES_KEY_GEN"
	}
}

// The methods that follow change the token behind the back of whoever has it
// open, as somebody with the PIN and another program could.

// TamperUID gives an object another CKA_ID. It fails with hsm.ErrKeyNotFound or
// hsm.ErrKeyExists.
func (m *Memory) TamperUID(from, to hsm.UID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.objects[from]
	if !ok {
		return hsm.ErrKeyNotFound
	}
	if _, ok := m.objects[to]; ok {
		return hsm.ErrKeyExists
	}
	delete(m.objects, from)
	m.objects[to] = k
	return nil
}

// TamperSwap exchanges the CKA_IDs of two objects.
func (m *Memory) TamperSwap(a, b hsm.UID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ka, okA := m.objects[a]
	kb, okB := m.objects[b]
	if !okA || !okB {
		return hsm.ErrKeyNotFound
	}
	m.objects[a], m.objects[b] = kb, ka
	return nil
}

// TamperValue replaces an object by a new key of the same UID, label and specification.
func (m *Memory) TamperValue(uid hsm.UID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.objects[uid]
	if !ok {
		return hsm.ErrKeyNotFound
	}
	k, err := generateMemoryKey(old.label, old.spec, generateRSA)
	if err != nil {
		return err
	}
	k.local = old.local
	k.usable = old.usable
	m.objects[uid] = k
	return nil
}

// TamperLabel gives an object another CKA_LABEL.
func (m *Memory) TamperLabel(uid hsm.UID, label string) error {
	return m.tamper(uid, func(k *memoryKey) { k.label = label })
}

// TamperUsable sets an object's usage attributes, also where NoUsageSwitch is set.
func (m *Memory) TamperUsable(uid hsm.UID, usable bool) error {
	return m.tamper(uid, func(k *memoryKey) { k.usable = usable })
}

func (m *Memory) tamper(uid hsm.UID, change func(*memoryKey)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.objects[uid]
	if !ok {
		return hsm.ErrKeyNotFound
	}
	change(k)
	return nil
}

// TamperDelete removes an object.
func (m *Memory) TamperDelete(uid hsm.UID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[uid]; !ok {
		return hsm.ErrKeyNotFound
	}
	delete(m.objects, uid)
	return nil
}
