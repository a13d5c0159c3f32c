// Package sshsigner makes a version of an ASYMMETRIC_SIGN key a signer of SSH
// (golang.org/x/crypto/ssh): the host key of a server, the key of a client, or the
// authority that signs certificates of both.
//
//	signer, err := c.Signer(ctx, key)
//	authority, err := sshsigner.New(signer)
//	err = certificate.SignCert(rand.Reader, authority)
//
// Each signature is a call to the service. A signer may be used by many goroutines at once.
package sshsigner
