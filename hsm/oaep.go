package hsm

import (
	"crypto"
	"fmt"
)

// OAEPHashes are the hashes of RSAES-OAEP (RFC 8017, section 7.1) that a Token may have;
// MGF1 has the same hash. SHA-1 is sound here: OAEP does not rely on collision resistance
// (RFC 8017, appendix B.1).
func OAEPHashes() []crypto.Hash { return []crypto.Hash{crypto.SHA1, crypto.SHA256} }

// CheckOAEP is the check of arguments that every use of RSA-OAEP begins with: a hash of
// [OAEPHashes], and for an RSA specification a ciphertext as long as its modulus. The
// error is ErrArgument. The length is no secret; whatever else may be wrong with a
// ciphertext is ErrAuthentication, told in one way.
func CheckOAEP(spec KeySpec, hash crypto.Hash, ciphertext []byte) error {
	if hash != crypto.SHA1 && hash != crypto.SHA256 {
		return fmt.Errorf("%w: RSA-OAEP with %v", ErrArgument, hash)
	}
	if len(ciphertext) != spec.Size() {
		return fmt.Errorf("%w: a ciphertext of %d bytes for an RSA modulus of %d", ErrArgument, len(ciphertext), spec.Size())
	}
	return nil
}
