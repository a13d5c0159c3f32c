package pkcs11hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// imports finds out which keys the token can unwrap, by unwrapping one of each kind as a
// session object and using it.
func (p *prober) imports() error {
	if !p.has(pkcs11.CKM_RSA_PKCS_OAEP) {
		return nil
	}
	h, public, done := p.rsaKey(hsm.RSA3072Import)
	if public == nil {
		return nil
	}
	defer done()
	kek := make([]byte, wrappingKeyBytes)
	rand.Read(kek)
	for _, p.t.dialect.keyWrap = range keyWraps {
		for _, hash := range hsm.OAEPHashes() {
			w := hsm.Wrapped{Hash: hash}
			if p.has(p.t.dialect.keyWrap) && p.unwraps(h, public, kek, &w, hsm.AES256Blocks) {
				p.info.ImportHashes = append(p.info.ImportHashes, hash)
			}
		}
		if len(p.info.ImportHashes) > 0 {
			break
		}
	}
	if len(p.info.ImportHashes) == 0 {
		return nil
	}
	p.sizes(hsm.RSA3072Import, hsm.RSA4096Import)
	if !p.info.Supports(hsm.RSA3072Import) && !p.info.Supports(hsm.RSA4096Import) {
		p.info.ImportHashes = nil
		return nil
	}
	w := hsm.Wrapped{Hash: p.info.ImportHashes[0]}
	tried := make(map[hsm.KeySpec]bool)
	for _, spec := range hsm.KeySpecs() {
		if !p.info.Supports(spec) || spec.Usage() == hsm.UsageImport {
			continue
		}
		sampled := representative(spec)
		works, known := tried[sampled]
		if !known {
			works = p.unwraps(h, public, kek, &w, sampled)
			tried[sampled] = works
		}
		if works {
			p.info.Imports = append(p.info.Imports, spec)
		}
	}
	return nil
}

// representative is the specification that the probe has an RSA key for.
func representative(spec hsm.KeySpec) hsm.KeySpec {
	switch {
	case spec.IsRSA() && spec.Usage() == hsm.UsageSign:
		return hsm.RSA2048Sign
	case spec.IsRSA():
		return hsm.RSA2048Decrypt
	default:
		return spec
	}
}

// unwraps imports one key, looks at its attributes, and uses it.
func (p *prober) unwraps(by objectHandle, public *rsa.PublicKey, kek []byte, w *hsm.Wrapped, spec hsm.KeySpec) bool {
	value, half, err := sample(spec)
	if err != nil {
		return false
	}
	if w.Key == nil {
		if w.Key, err = rsa.EncryptOAEP(w.Hash.New(), rand.Reader, public, kek, nil); err != nil {
			return false
		}
	}
	if w.Value, err = hsm.WrapAES(kek, value); err != nil {
		return false
	}
	h, err := p.t.unwrapTwice(p.s, by, *w, p.t.importTemplate(spec, hsm.UID{}, "", false))
	if err != nil {
		return false
	}
	defer p.drop(h)
	// NSS lets an RSA key that it unwraps do everything, whatever the template says.
	f, ok, err := search{p.t, p.s}.identify(h)
	return err == nil && ok && f.attributes.importWeaknesses(p.t.dialect, spec) == "" && p.isUsable(h, spec, value, half)
}

// sample makes a key: the bytes of a secret, or the PKCS#8 of a pair with its public key.
func sample(spec hsm.KeySpec) (value []byte, public any, err error) {
	var private crypto.Signer
	switch {
	case !spec.IsPair():
		value = make([]byte, spec.Size())
		rand.Read(value)
		return value, nil, nil
	case spec.IsRSA():
		private, err = probeKey()
	case spec == hsm.Ed25519:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = ecdsa.GenerateKey(curveOf(spec), rand.Reader)
	}
	if err != nil {
		return nil, nil, err
	}
	value, err = x509.MarshalPKCS8PrivateKey(private)
	return value, private.Public(), err
}

// isUsable uses what was unwrapped and compares with what is known of it.
func (p *prober) isUsable(h objectHandle, spec hsm.KeySpec, value []byte, public any) bool {
	switch spec.Usage() {
	case hsm.UsageBlocks:
		got, zero := make([]byte, hsm.BlockSize), make([]byte, hsm.BlockSize)
		known, err := p.t.createSessionKey(p.s, hsm.UID{}, spec, value)
		if err != nil { // it cannot be compared with
			return crossed(p.t.module.lib.encryptBlocks(p.s.handle, h, got, zero)) == nil
		}
		defer p.drop(known)
		want := make([]byte, hsm.BlockSize)
		return crossed(p.t.module.lib.encryptBlocks(p.s.handle, h, got, zero)) == nil &&
			crossed(p.t.module.lib.encryptBlocks(p.s.handle, known, want, zero)) == nil && bytes.Equal(got, want)
	case hsm.UsageMAC:
		return p.tagIs(h, spec, value)
	case hsm.UsageSign:
		return p.t.proveSignature(p.s, h, spec, public) == nil
	case hsm.UsageDecrypt:
		return p.t.proveDecryption(p.s, h, spec, public) == nil
	default: // AES256GCM: a key of that kind works, as was found before
		return true
	}
}
