package kms

import (
	"crypto"
	"fmt"
	"slices"
	"strings"

	"github.com/keyholt/keyholt/hsm"
)

// Purpose says what a key is for. It never changes.
type Purpose uint8

// The purposes. The zero value is none of them.
const (
	PurposeEncryptDecrypt    Purpose = 1 // Encrypt, Decrypt and the data key operations
	PurposeAsymmetricSign    Purpose = 2 // Sign, Verify, GetPublicKey
	PurposeAsymmetricDecrypt Purpose = 3 // AsymmetricDecrypt, GetPublicKey
	PurposeMAC               Purpose = 4 // GenerateMac, VerifyMac
)

// Purposes returns every purpose, in the order of their values.
func Purposes() []Purpose {
	return []Purpose{PurposeEncryptDecrypt, PurposeAsymmetricSign, PurposeAsymmetricDecrypt, PurposeMAC}
}

// String returns the purpose's name, as ENCRYPT_DECRYPT.
func (p Purpose) String() string {
	switch p {
	case PurposeEncryptDecrypt:
		return "ENCRYPT_DECRYPT"
	case PurposeAsymmetricSign:
		return "ASYMMETRIC_SIGN"
	case PurposeAsymmetricDecrypt:
		return "ASYMMETRIC_DECRYPT"
	case PurposeMAC:
		return "MAC"
	default:
		return "PURPOSE_UNSPECIFIED"
	}
}

// DefaultAlgorithm is the algorithm of keys of the purpose for which none is asked; zero
// for ASYMMETRIC_DECRYPT, where it must be named: which of them a token has differs too much.
func (p Purpose) DefaultAlgorithm() Algorithm {
	switch p {
	case PurposeEncryptDecrypt:
		return AlgorithmAES256
	case PurposeAsymmetricSign:
		return AlgorithmECP256SHA256
	case PurposeMAC:
		return AlgorithmHMACSHA256
	default:
		return 0
	}
}

// Algorithm is what the versions of a key compute, with all its options: it never
// changes, and no request chooses another hash or padding. Values are never given
// another meaning.
type Algorithm uint8

// The algorithms, named as Google Cloud KMS does (see String). The zero value is none of
// them.
const (
	AlgorithmAES256 Algorithm = 1

	AlgorithmECP256SHA256 Algorithm = 2 // ECDSA, FIPS 186-5
	AlgorithmECP384SHA384 Algorithm = 3
	AlgorithmECP521SHA512 Algorithm = 4
	AlgorithmEd25519      Algorithm = 5 // Ed25519 of RFC 8032, which signs messages

	AlgorithmRSA2048PKCS1SHA256 Algorithm = 6 // RSASSA-PKCS1-v1_5, RFC 8017 section 8.2
	AlgorithmRSA2048PKCS1SHA384 Algorithm = 7
	AlgorithmRSA2048PKCS1SHA512 Algorithm = 8
	AlgorithmRSA3072PKCS1SHA256 Algorithm = 9
	AlgorithmRSA3072PKCS1SHA384 Algorithm = 10
	AlgorithmRSA3072PKCS1SHA512 Algorithm = 11
	AlgorithmRSA4096PKCS1SHA256 Algorithm = 12
	AlgorithmRSA4096PKCS1SHA384 Algorithm = 13
	AlgorithmRSA4096PKCS1SHA512 Algorithm = 14

	// RSASSA-PSS, RFC 8017 section 8.1: MGF1 with the same hash, a salt as long as the digest.
	AlgorithmRSA2048PSSSHA256 Algorithm = 15
	AlgorithmRSA2048PSSSHA384 Algorithm = 16
	AlgorithmRSA2048PSSSHA512 Algorithm = 17
	AlgorithmRSA3072PSSSHA256 Algorithm = 18
	AlgorithmRSA3072PSSSHA384 Algorithm = 19
	AlgorithmRSA3072PSSSHA512 Algorithm = 20
	AlgorithmRSA4096PSSSHA256 Algorithm = 21
	AlgorithmRSA4096PSSSHA384 Algorithm = 22
	AlgorithmRSA4096PSSSHA512 Algorithm = 23

	// RSAES-OAEP, RFC 8017 section 7.1: MGF1 with the same hash, an empty label.
	AlgorithmRSA2048OAEPSHA256 Algorithm = 24
	AlgorithmRSA2048OAEPSHA1   Algorithm = 25
	AlgorithmRSA3072OAEPSHA256 Algorithm = 26
	AlgorithmRSA3072OAEPSHA1   Algorithm = 27
	AlgorithmRSA4096OAEPSHA256 Algorithm = 28
	AlgorithmRSA4096OAEPSHA1   Algorithm = 29

	AlgorithmHMACSHA256 Algorithm = 30 // FIPS 198-1, keys as long as the hash
	AlgorithmHMACSHA384 Algorithm = 31
	AlgorithmHMACSHA512 Algorithm = 32
)

// algorithmRow is what is fixed about an algorithm.
type algorithmRow struct {
	name    string
	purpose Purpose
	spec    hsm.KeySpec // of its token objects; zero: the protection profile says
	scheme  hsm.Scheme  // ASYMMETRIC_SIGN
	// hash is that of the digests that are signed (zero: messages are signed), of
	// RSA-OAEP, or of the HMAC.
	hash   crypto.Hash
	jwa    string // RFC 7518, RFC 8037; empty: no such name
	awsKey string // what AWS KMS calls such a key ...
	awsAlg string // ... and the algorithm
}

// algorithms is the table of everything that a key can be, each at its own value. A
// combination of purpose, algorithm and options that is not in it is refused.
var algorithms = [...]algorithmRow{
	AlgorithmAES256: {"AES_256", PurposeEncryptDecrypt, 0, 0, 0, "", "SYMMETRIC_DEFAULT", "SYMMETRIC_DEFAULT"},

	AlgorithmECP256SHA256: ecSign(256, hsm.ECDSAP256),
	AlgorithmECP384SHA384: ecSign(384, hsm.ECDSAP384),
	AlgorithmECP521SHA512: ecSign(521, hsm.ECDSAP521),
	AlgorithmEd25519: {
		"EC_SIGN_ED25519", PurposeAsymmetricSign, hsm.Ed25519, hsm.PureEd25519, 0, "EdDSA", "ECC_NIST_EDWARDS25519", "ED25519_SHA_512",
	},

	AlgorithmRSA2048PKCS1SHA256: rsaSign("RSA_SIGN_PKCS1_2048_SHA256", hsm.RSA2048Sign, hsm.PKCS1SHA256),
	AlgorithmRSA2048PKCS1SHA384: rsaSign("RSA_SIGN_PKCS1_2048_SHA384", hsm.RSA2048Sign, hsm.PKCS1SHA384),
	AlgorithmRSA2048PKCS1SHA512: rsaSign("RSA_SIGN_PKCS1_2048_SHA512", hsm.RSA2048Sign, hsm.PKCS1SHA512),
	AlgorithmRSA3072PKCS1SHA256: rsaSign("RSA_SIGN_PKCS1_3072_SHA256", hsm.RSA3072Sign, hsm.PKCS1SHA256),
	AlgorithmRSA3072PKCS1SHA384: rsaSign("RSA_SIGN_PKCS1_3072_SHA384", hsm.RSA3072Sign, hsm.PKCS1SHA384),
	AlgorithmRSA3072PKCS1SHA512: rsaSign("RSA_SIGN_PKCS1_3072_SHA512", hsm.RSA3072Sign, hsm.PKCS1SHA512),
	AlgorithmRSA4096PKCS1SHA256: rsaSign("RSA_SIGN_PKCS1_4096_SHA256", hsm.RSA4096Sign, hsm.PKCS1SHA256),
	AlgorithmRSA4096PKCS1SHA384: rsaSign("RSA_SIGN_PKCS1_4096_SHA384", hsm.RSA4096Sign, hsm.PKCS1SHA384),
	AlgorithmRSA4096PKCS1SHA512: rsaSign("RSA_SIGN_PKCS1_4096_SHA512", hsm.RSA4096Sign, hsm.PKCS1SHA512),

	AlgorithmRSA2048PSSSHA256: rsaSign("RSA_SIGN_PSS_2048_SHA256", hsm.RSA2048Sign, hsm.PSSSHA256),
	AlgorithmRSA2048PSSSHA384: rsaSign("RSA_SIGN_PSS_2048_SHA384", hsm.RSA2048Sign, hsm.PSSSHA384),
	AlgorithmRSA2048PSSSHA512: rsaSign("RSA_SIGN_PSS_2048_SHA512", hsm.RSA2048Sign, hsm.PSSSHA512),
	AlgorithmRSA3072PSSSHA256: rsaSign("RSA_SIGN_PSS_3072_SHA256", hsm.RSA3072Sign, hsm.PSSSHA256),
	AlgorithmRSA3072PSSSHA384: rsaSign("RSA_SIGN_PSS_3072_SHA384", hsm.RSA3072Sign, hsm.PSSSHA384),
	AlgorithmRSA3072PSSSHA512: rsaSign("RSA_SIGN_PSS_3072_SHA512", hsm.RSA3072Sign, hsm.PSSSHA512),
	AlgorithmRSA4096PSSSHA256: rsaSign("RSA_SIGN_PSS_4096_SHA256", hsm.RSA4096Sign, hsm.PSSSHA256),
	AlgorithmRSA4096PSSSHA384: rsaSign("RSA_SIGN_PSS_4096_SHA384", hsm.RSA4096Sign, hsm.PSSSHA384),
	AlgorithmRSA4096PSSSHA512: rsaSign("RSA_SIGN_PSS_4096_SHA512", hsm.RSA4096Sign, hsm.PSSSHA512),

	AlgorithmRSA2048OAEPSHA256: rsaDecrypt("RSA_DECRYPT_OAEP_2048_SHA256", hsm.RSA2048Decrypt, crypto.SHA256),
	AlgorithmRSA2048OAEPSHA1:   rsaDecrypt("RSA_DECRYPT_OAEP_2048_SHA1", hsm.RSA2048Decrypt, crypto.SHA1),
	AlgorithmRSA3072OAEPSHA256: rsaDecrypt("RSA_DECRYPT_OAEP_3072_SHA256", hsm.RSA3072Decrypt, crypto.SHA256),
	AlgorithmRSA3072OAEPSHA1:   rsaDecrypt("RSA_DECRYPT_OAEP_3072_SHA1", hsm.RSA3072Decrypt, crypto.SHA1),
	AlgorithmRSA4096OAEPSHA256: rsaDecrypt("RSA_DECRYPT_OAEP_4096_SHA256", hsm.RSA4096Decrypt, crypto.SHA256),
	AlgorithmRSA4096OAEPSHA1:   rsaDecrypt("RSA_DECRYPT_OAEP_4096_SHA1", hsm.RSA4096Decrypt, crypto.SHA1),

	AlgorithmHMACSHA256: hmacOf(256, hsm.HMACSHA256),
	AlgorithmHMACSHA384: hmacOf(384, hsm.HMACSHA384),
	AlgorithmHMACSHA512: hmacOf(512, hsm.HMACSHA512),
}

func ecSign(curve int, spec hsm.KeySpec) algorithmRow {
	bits := 8 * spec.Hash().Size()
	return algorithmRow{
		fmt.Sprintf("EC_SIGN_P%d_SHA%d", curve, bits), PurposeAsymmetricSign, spec, hsm.ECDSA, spec.Hash(),
		fmt.Sprintf("ES%d", bits), fmt.Sprintf("ECC_NIST_P%d", curve), fmt.Sprintf("ECDSA_SHA_%d", bits),
	}
}

func hmacOf(bits int, spec hsm.KeySpec) algorithmRow {
	return algorithmRow{
		fmt.Sprintf("HMAC_SHA%d", bits), PurposeMAC, spec, 0, spec.Hash(),
		fmt.Sprintf("HS%d", bits), fmt.Sprintf("HMAC_%d", bits), fmt.Sprintf("HMAC_SHA_%d", bits),
	}
}

func rsaSign(name string, spec hsm.KeySpec, scheme hsm.Scheme) algorithmRow {
	bits, jwa, aws := 8*scheme.Hash().Size(), "RS", "RSASSA_PKCS1_V1_5"
	if scheme.IsPSS() {
		jwa, aws = "PS", "RSASSA_PSS"
	}
	return algorithmRow{
		name, PurposeAsymmetricSign, spec, scheme, scheme.Hash(), fmt.Sprintf("%s%d", jwa, bits),
		fmt.Sprintf("RSA_%d", 8*spec.Size()), fmt.Sprintf("%s_SHA_%d", aws, bits),
	}
}

func rsaDecrypt(name string, spec hsm.KeySpec, hash crypto.Hash) algorithmRow {
	jwa, aws := "RSA-OAEP", "RSAES_OAEP_SHA_1"
	if hash == crypto.SHA256 {
		jwa, aws = "RSA-OAEP-256", "RSAES_OAEP_SHA_256"
	}
	return algorithmRow{name, PurposeAsymmetricDecrypt, spec, 0, hash, jwa, fmt.Sprintf("RSA_%d", 8*spec.Size()), aws}
}

// Algorithms returns every algorithm, in the order of their values.
func Algorithms() []Algorithm {
	all := make([]Algorithm, 0, len(algorithms)-1)
	for i := 1; i < len(algorithms); i++ {
		all = append(all, Algorithm(i))
	}
	return all
}

// ParseAlgorithm is the inverse of String, for the algorithms of the table.
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, a := range Algorithms() {
		if a.String() == name {
			return a, nil
		}
	}
	return 0, Invalid(Violation{"algorithm", fmt.Sprintf("%q is none of %s", clip(name), namesOf(Algorithms()))})
}

// row is the zero row for what is no algorithm.
func (a Algorithm) row() *algorithmRow {
	if int(a) >= len(algorithms) {
		return &algorithms[0]
	}
	return &algorithms[a]
}

// Valid reports whether a is in the table.
func (a Algorithm) Valid() bool { return a.row().purpose != 0 }

// String returns the algorithm's name as Google Cloud KMS has it, such as
// EC_SIGN_P256_SHA256, RSA_SIGN_PSS_2048_SHA256, EC_SIGN_ED25519 or HMAC_SHA256. It has
// no name for P-521 and for some pairs of RSA key and hash; theirs are formed alike.
func (a Algorithm) String() string {
	if !a.Valid() {
		return "ALGORITHM_UNSPECIFIED"
	}
	return a.row().name
}

// Purpose is the purpose of keys of the algorithm.
func (a Algorithm) Purpose() Purpose { return a.row().purpose }

// Hash is the hash of the digests that are signed, of RSA-OAEP, or of the HMAC. It is zero
// for AES_256 and for EC_SIGN_ED25519, which signs messages.
func (a Algorithm) Hash() crypto.Hash { return a.row().hash }

// SignsMessages reports whether the token signs the message itself, so that there is no
// digest to be had: EC_SIGN_ED25519.
func (a Algorithm) SignsMessages() bool {
	return a.Purpose() == PurposeAsymmetricSign && a.Hash() == 0
}

// IsPSS reports whether signatures are RSASSA-PSS, with a salt as long as the digest.
func (a Algorithm) IsPSS() bool { return a.row().scheme.IsPSS() }

// OutputSize is the length in bytes of a raw signature or of a tag, and of the ciphertexts
// that AsymmetricDecrypt takes; zero for AES_256.
func (a Algorithm) OutputSize() int {
	if a.Purpose() == PurposeAsymmetricDecrypt {
		return a.row().spec.Size()
	}
	return a.row().spec.OutputSize()
}

// KeySpec is what token objects the versions of a key of the algorithm are; p matters to
// ENCRYPT_DECRYPT keys only.
func (a Algorithm) KeySpec(p Profile) hsm.KeySpec {
	if a.Purpose() == PurposeEncryptDecrypt {
		return p.keySpec()
	}
	return a.row().spec
}

// JWA is the name of the algorithm in JSON Web Signatures and Encryption (RFC 7518, RFC
// 8037): the "alg" of a JWK or a token. Empty for AES_256.
func (a Algorithm) JWA() string { return a.row().jwa }

// AWS is what AWS KMS calls such a key (KeySpec) and what it does (the signing, MAC or
// encryption algorithm).
func (a Algorithm) AWS() (keySpec, algorithm string) { return a.row().awsKey, a.row().awsAlg }

// namesOf lists algorithms.
func namesOf(list []Algorithm) string {
	names := make([]string, len(list))
	for i, a := range list {
		names[i] = a.String()
	}
	return strings.Join(names, ", ")
}

// maxListed is how many bytes of names are in the message of an error. The messages have some
// 200 more, and what is longer than package wire lets through is cut anywhere.
const maxListed = 240

// someOf lists algorithms for the message of an error: the first, and how many more there are.
func someOf(list []Algorithm) string {
	all := namesOf(list)
	if len(all) <= maxListed {
		return all
	}
	cut := strings.LastIndex(all[:maxListed], ", ")
	return fmt.Sprintf("%s and %d more", all[:cut], 1+strings.Count(all[cut+len(", "):], ", "))
}

// checkCombination refuses what is not in the table. The fields are those of CreateKey.
func checkCombination(p Purpose, a Algorithm, profile Profile) error {
	switch {
	case !slices.Contains(Purposes(), p):
		return Invalid(Violation{"key.purpose", "is not supported"})
	case a == 0:
		return Invalid(Violation{"key.algorithm", fmt.Sprintf("is required for %s: one of %s", p, someOf(algorithmsOf(p)))})
	case !a.Valid():
		return Invalid(Violation{"key.algorithm", "is not supported"})
	case a.Purpose() != p:
		return Invalid(Violation{"key.algorithm", fmt.Sprintf("%s is not for %s: one of %s", a, p, someOf(algorithmsOf(p)))})
	case p != PurposeEncryptDecrypt && profile != 0:
		return Invalid(Violation{"key.protection_profile", "is for ENCRYPT_DECRYPT keys only, not for " + p.String()})
	case p == PurposeEncryptDecrypt && profile != ProfileDerived && profile != ProfileStrict:
		return Invalid(Violation{"key.protection_profile", "is not supported"})
	}
	return nil
}

// algorithmsOf returns the algorithms of a purpose.
func algorithmsOf(p Purpose) []Algorithm {
	return slices.DeleteFunc(Algorithms(), func(a Algorithm) bool { return a.Purpose() != p })
}
