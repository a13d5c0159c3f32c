package kms

import (
	"crypto"
	"fmt"
	"slices"
	"strings"

	"github.com/keyholt/keyholt/hsm"
)

// ImportMethod is how a key is wrapped to be imported: with an AES-256 key that is made for
// it, by AES key wrap with padding (RFC 5649), and that key with RSA-OAEP (RFC 8017, section
// 7.1; MGF1 with the same hash, an empty label) under the public key of the import job. The
// wrapped key is the RSA ciphertext, as long as the modulus, and what the key wrap made after
// it: what CKM_RSA_AES_KEY_WRAP of PKCS#11 v2.40 makes, and what Google Cloud KMS and AWS
// KMS take. What is wrapped are the bytes of a secret key, or the PKCS#8 PrivateKeyInfo (RFC
// 5208) of a pair, DER.
type ImportMethod uint8

// The methods. Names and values are those of Google Cloud KMS; AWS KMS calls them
// RSA_AES_KEY_WRAP_SHA_1 and RSA_AES_KEY_WRAP_SHA_256 with a wrapping key of RSA_3072 or
// RSA_4096. The zero value is none of them.
const (
	ImportRSA3072SHA1   ImportMethod = 1
	ImportRSA4096SHA1   ImportMethod = 2
	ImportRSA3072SHA256 ImportMethod = 3
	ImportRSA4096SHA256 ImportMethod = 4
)

// importMethodRow is what is fixed about a method.
type importMethodRow struct {
	name string
	spec hsm.KeySpec // of the wrapping key
	hash crypto.Hash // of RSA-OAEP
}

// importMethods is the table of methods, each at its own value.
var importMethods = [...]importMethodRow{
	ImportRSA3072SHA1:   {"RSA_OAEP_3072_SHA1_AES_256", hsm.RSA3072Import, crypto.SHA1},
	ImportRSA4096SHA1:   {"RSA_OAEP_4096_SHA1_AES_256", hsm.RSA4096Import, crypto.SHA1},
	ImportRSA3072SHA256: {"RSA_OAEP_3072_SHA256_AES_256", hsm.RSA3072Import, crypto.SHA256},
	ImportRSA4096SHA256: {"RSA_OAEP_4096_SHA256_AES_256", hsm.RSA4096Import, crypto.SHA256},
}

// ImportMethods returns every method; where a token has several and a request names none,
// the first of these is taken.
func ImportMethods() []ImportMethod {
	return []ImportMethod{ImportRSA3072SHA256, ImportRSA4096SHA256, ImportRSA3072SHA1, ImportRSA4096SHA1}
}

// row is the zero row for what is no method.
func (m ImportMethod) row() importMethodRow {
	if int(m) < len(importMethods) {
		return importMethods[m]
	}
	return importMethodRow{}
}

// Valid reports whether m is one of the methods.
func (m ImportMethod) Valid() bool { return m.row().spec != 0 }

// String returns the method's name, as RSA_OAEP_3072_SHA256_AES_256.
func (m ImportMethod) String() string {
	if !m.Valid() {
		return "IMPORT_METHOD_UNSPECIFIED"
	}
	return m.row().name
}

// Hash is the hash of RSA-OAEP.
func (m ImportMethod) Hash() crypto.Hash { return m.row().hash }

// ModulusSize is the length of the wrapping key's modulus in bytes, and so of the first part
// of a wrapped key.
func (m ImportMethod) ModulusSize() int { return m.row().spec.Size() }

// importMethodsOf returns the methods that a token has.
func importMethodsOf(info *hsm.Info) []ImportMethod {
	return slices.DeleteFunc(ImportMethods(), func(m ImportMethod) bool {
		return !info.Supports(m.row().spec) || !slices.Contains(info.ImportHashes, m.Hash())
	})
}

// importable returns the algorithms of a purpose whose keys a token can bring in.
func importable(info *hsm.Info, p Purpose) []Algorithm {
	return slices.DeleteFunc(has(info, p), func(a Algorithm) bool {
		return !info.CanImport(a.KeySpec(ProfileDerived)) && !info.CanImport(a.KeySpec(ProfileStrict))
	})
}

// chooseMethod is the method that was asked for if the token has it, and the first that it
// has if none was.
func (s *Service) chooseMethod(asked ImportMethod) (ImportMethod, error) {
	info := s.token.Info()
	has := importMethodsOf(&info)
	switch {
	case len(has) == 0:
		return 0, errorf(ErrUnsupported, "the token cannot import keys").with("missing", "imports")
	case asked == 0:
		return has[0], nil
	case slices.Contains(has, asked):
		return asked, nil
	}
	lacks := "keys of " + asked.row().spec.String()
	if !slices.Contains(info.ImportHashes, asked.Hash()) {
		lacks = "unwrapping by RSA-OAEP with " + asked.Hash().String()
	}
	names := make([]string, len(has))
	for i, m := range has {
		names[i] = m.String()
	}
	return 0, errorf(ErrUnsupported, "the token cannot import by %s: it lacks %s; it has %s", asked, lacks, strings.Join(names, ", ")).
		with("import_method", asked.String()).with("missing", lacks)
}

// checkImportable refuses the import of keys that this token cannot unwrap, before anything
// is made. None is ever brought in by another way, in which the host would see it.
func (s *Service) checkImportable(a Algorithm, p Profile) error {
	info := s.token.Info()
	spec := a.KeySpec(p)
	if info.CanImport(spec) {
		return nil
	}
	offer := "it imports none of " + a.Purpose().String()
	if offered := importable(&info, a.Purpose()); len(offered) > 0 {
		offer = fmt.Sprintf("of %s it imports %s", a.Purpose(), someOf(offered))
	}
	lacks := "unwrapping of " + spec.String()
	return errorf(ErrUnsupported, "the token cannot import keys of %s: it lacks %s; %s", a, lacks, offer).
		with("algorithm", a.String()).with("missing", lacks)
}

// diagnoseImports tells which keys can be brought in, and how.
func diagnoseImports(info *hsm.Info) Finding {
	f := Finding{Area: "token", Check: "imports", Severity: SeverityOK, Detail: "none: keys cannot be brought in"}
	methods := importMethodsOf(info)
	if len(methods) == 0 {
		return f
	}
	names := make([]string, len(methods))
	for i, m := range methods {
		names[i] = m.String()
	}
	f.Detail = strings.Join(names, ", ")
	var not []string
	for _, p := range Purposes() {
		can := importable(info, p)
		for _, a := range has(info, p) {
			if !slices.Contains(can, a) {
				not = append(not, a.String())
			}
		}
	}
	if len(not) > 0 {
		f.Detail += "; no keys of " + strings.Join(not, ", ")
	}
	return f
}
