package kms

import (
	"context"
	"crypto"
	_ "crypto/sha256" // the hashes of the algorithms
	_ "crypto/sha512"
	"fmt"
)

// keyOperation is one row of the table of operations under keys that the caller names.
type keyOperation struct {
	purposes []Purpose // of the keys that it is for
	uses     use
	// protects is the purpose whose versions protect something from this operation on. Of
	// an ASYMMETRIC_DECRYPT key that is handing out its public key: whoever has that can
	// encrypt, and no more is heard of it.
	protects Purpose
	verifies bool // the result is a verdict, which is recorded
	// check says what is wrong with an item for the algorithm, and sets its input.
	check func(Algorithm, *keyItem) error
	// work does the items of one version. Outcomes are per item; the error is for all.
	work func(*Service, context.Context, *versionEntry, []*keyItem) error
}

// keyOperations is the table. An action that is not in it goes another way.
var keyOperations = map[Action]*keyOperation{
	ActionSign:           &signing,
	ActionBatchSign:      &signing,
	ActionVerify:         &verification,
	ActionGetPublicKey:   &publicKeys,
	ActionGenerateMac:    &macMaking,
	ActionBatchMac:       &macMaking,
	ActionVerifyMac:      &macVerification,
	ActionBatchVerifyMac: &macVerification,
	ActionAsymDecrypt:    &asymmetricDecryption,
}

var (
	signing = keyOperation{
		purposes: []Purpose{PurposeAsymmetricSign}, uses: useSeal, protects: PurposeAsymmetricSign,
		check: checkSigned, work: (*Service).sign,
	}
	verification = keyOperation{
		purposes: []Purpose{PurposeAsymmetricSign}, uses: usePublic, verifies: true,
		check: checkSigned, work: (*Service).verify,
	}
	publicKeys = keyOperation{
		purposes: []Purpose{PurposeAsymmetricSign, PurposeAsymmetricDecrypt}, uses: usePublic, protects: PurposeAsymmetricDecrypt,
		check: func(Algorithm, *keyItem) error { return nil },
		work:  func(*Service, context.Context, *versionEntry, []*keyItem) error { return nil },
	}
	macMaking = keyOperation{
		purposes: []Purpose{PurposeMAC}, uses: useSeal, protects: PurposeMAC,
		check: checkMacMessage, work: (*Service).makeMacs,
	}
	macVerification = keyOperation{
		purposes: []Purpose{PurposeMAC}, uses: useOpen, verifies: true,
		check: checkMacMessage, work: (*Service).verifyMacs,
	}
	asymmetricDecryption = keyOperation{
		purposes: []Purpose{PurposeAsymmetricDecrypt}, uses: useOpen, protects: PurposeAsymmetricDecrypt,
		check: checkAsymmetric, work: (*Service).decryptAsymmetric,
	}
)

// checkSigned makes of digest or message what the algorithm signs.
func checkSigned(a Algorithm, it *keyItem) error {
	switch {
	case it.message != nil && a.SignsMessages():
		it.input = it.message
		return nil
	case it.message != nil:
		h := a.Hash().New()
		h.Write(it.message)
		it.input = h.Sum(nil)
		return nil
	case a.SignsMessages():
		return errorf(ErrHashMismatch, "%s signs the message itself, up to %d bytes: it takes no digest", a, MaxMessage).
			with("algorithm", a.String())
	case it.digestHash != 0 && it.digestHash != a.Hash():
		return errorf(ErrHashMismatch, "%s signs digests of %s, not of %s", a, a.Hash(), hashName(it.digestHash)).
			with("algorithm", a.String()).with("hash", a.Hash().String())
	case len(it.digest) != a.Hash().Size():
		return errorf(ErrDigestLength, "%s signs digests of %s, which have %d bytes, not %d",
			a, a.Hash(), a.Hash().Size(), len(it.digest)).
			with("algorithm", a.String()).with("digest_size", fmt.Sprint(a.Hash().Size()))
	}
	it.input = it.digest
	return nil
}

// hashName is the name of a hash that a caller names.
func hashName(h crypto.Hash) string {
	if h == 0 || h > crypto.BLAKE2b_512 {
		return "an unknown hash"
	}
	return h.String()
}

func checkMacMessage(_ Algorithm, it *keyItem) error {
	it.input = it.message
	return nil
}

// checkAsymmetric refuses a ciphertext that is not as long as the modulus. That is no
// secret, and RFC 8017 (section 7.1.2) has it refused first; all else that may be wrong is
// the token's to tell, in one way.
func checkAsymmetric(a Algorithm, it *keyItem) error {
	if len(it.given) != a.OutputSize() {
		return errorf(ErrMalformedCiphertext, "a ciphertext of %s has %d bytes, not %d", a, a.OutputSize(), len(it.given)).
			with("algorithm", a.String())
	}
	it.input = it.given
	return nil
}

// checkDigestOrMessage refuses what no algorithm signs.
func checkDigestOrMessage(digest []byte, hash crypto.Hash, message []byte) error {
	switch {
	case len(digest) > 0 && len(message) > 0:
		return Invalid(Violation{"digest", "give a digest or a message, not both"})
	case len(digest) == 0 && len(message) == 0:
		return Invalid(Violation{"digest", "a digest or a message is required"})
	case len(digest) == 0 && hash != 0:
		return Invalid(Violation{"digest_hash", "is for digests; a message is hashed as the key's algorithm says"})
	case len(digest) > maxDigest:
		return tooMuch("digest", "%d bytes are more than any digest has (%d)", len(digest), maxDigest)
	}
	return checkLength("message", len(message), MaxMessage)
}

// maxDigest is the longest digest that any algorithm signs.
const maxDigest = 64

// checkMessage refuses an empty or too long message.
func checkMessage(message []byte) error {
	return firstError(required("message", len(message) == 0), checkLength("message", len(message), MaxMessage))
}

// checkGiven refuses a signature or tag that cannot be one.
func checkGiven(field string, given []byte) error {
	return firstError(required(field, len(given) == 0), checkLength(field, len(given), MaxSignature))
}

func checkLength(field string, n, most int) error {
	if n > most {
		return tooMuch(field, "%d bytes are more than %d", n, most)
	}
	return nil
}
