package kms

// AsymmetricDecryptRequest asks for the plaintext of a ciphertext that was made with the
// public key of an ASYMMETRIC_DECRYPT key.
type AsymmetricDecryptRequest struct {
	Key        KeyName // its primary version; or
	Version    VersionName
	Ciphertext []byte // as long as the modulus
}

// AsymmetricDecryptResult is a plaintext and the version that decrypted it.
type AsymmetricDecryptResult struct {
	Plaintext Secret
	Version   VersionName
	Algorithm Algorithm
}
