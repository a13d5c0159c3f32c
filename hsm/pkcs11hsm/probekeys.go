package pkcs11hsm

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" //nolint:gosec // of RSA-OAEP, which does not rely on collision resistance
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// The steps that follow find out which other keys the token can make and use. Each makes
// session keys, uses them, and compares with what the standard library says. What fails is
// not offered: only the loss of a session or of the token ends the probe.

// offer adds a specification that works.
func (p *prober) offer(spec hsm.KeySpec) { p.info.Specs = append(p.info.Specs, spec) }

// offerScheme adds a scheme that works.
func (p *prober) offerScheme(scheme hsm.Scheme) {
	if !slices.Contains(p.info.Schemes, scheme) {
		p.info.Schemes = append(p.info.Schemes, scheme)
	}
}

// hasAll reports whether the token lists what keys of the specification need.
func (p *prober) hasAll(spec hsm.KeySpec) bool {
	kind, _ := kindOf(spec)
	return p.has(kind.generate) && p.has(kind.mechanisms[0])
}

func (p *prober) drop(handles ...objectHandle) {
	for _, h := range handles {
		_ = p.ctx().DestroyObject(p.session(), pkcs11.ObjectHandle(h))
	}
}

// hmac compares tags, under a known key where the token takes one.
func (p *prober) hmac() error {
	for _, spec := range []hsm.KeySpec{hsm.HMACSHA256, hsm.HMACSHA384, hsm.HMACSHA512} {
		if p.hasAll(spec) && p.hmacWorks(spec) {
			p.offer(spec)
		}
	}
	return nil
}

func (p *prober) hmacWorks(spec hsm.KeySpec) bool {
	message := []byte("keyholt probe")
	generated, err := p.t.generateSecret(p.s, spec, p.t.dialect.generateTemplate(spec, hsm.UID{}, "", false))
	if err != nil {
		return false
	}
	defer p.drop(generated)
	first, err := p.tag(generated, spec, message)
	if err != nil {
		return false
	}
	if !p.info.SessionKeys {
		again, err := p.tag(generated, spec, message)
		return err == nil && bytes.Equal(first, again)
	}
	value := make([]byte, spec.Size())
	rand.Read(value)
	known, err := p.t.createSessionKey(p.s, hsm.UID{}, spec, value)
	if err != nil {
		return false
	}
	defer p.drop(known)
	return p.tagIs(known, spec, value)
}

// tag is one tag.
func (p *prober) tag(h objectHandle, spec hsm.KeySpec, message []byte) ([]byte, error) {
	items := []item{{input: message}}
	if _, err := p.t.cross(p.s, h, macOperation(spec, p.t), items, []int{0}); err != nil {
		return nil, err
	}
	return items[0].output, items[0].err
}

// tagIs compares a tag with the standard library's.
func (p *prober) tagIs(h objectHandle, spec hsm.KeySpec, value []byte) bool {
	message := []byte("keyholt probe")
	tag, err := p.tag(h, spec, message)
	mac := hmac.New(spec.Hash().New, value)
	mac.Write(message)
	return err == nil && hmac.Equal(tag, mac.Sum(nil))
}

// curves generates pairs and verifies their signatures.
func (p *prober) curves() error {
	for _, spec := range []hsm.KeySpec{hsm.ECDSAP256, hsm.ECDSAP384, hsm.ECDSAP521} {
		if p.hasAll(spec) && p.pairWorks(spec) {
			p.offer(spec)
			p.offerScheme(hsm.ECDSA)
		}
	}
	if !p.hasAll(hsm.Ed25519) {
		return nil
	}
	for p.t.dialect.edwards = range curveEdwards {
		if p.pairWorks(hsm.Ed25519) {
			p.offer(hsm.Ed25519)
			p.offerScheme(hsm.PureEd25519)
			return nil
		}
	}
	return nil
}

// pairWorks generates a pair that signs.
func (p *prober) pairWorks(spec hsm.KeySpec) bool {
	d := p.t.dialect
	public, private, err := p.t.generatePair(p.s, spec,
		d.publicGenerateTemplate(spec, hsm.UID{}, "", false), d.privateTemplate(spec, hsm.UID{}, "", false))
	if err != nil {
		return false
	}
	defer p.drop(public, private)
	key, err := p.t.publicKey(p.s, keyHandle{handle: private, public: public, spec: spec})
	return err == nil && p.t.proveSignature(p.s, private, spec, key) == nil
}

// rsa tries signatures and decryptions with a known key or, where the token takes none, with
// a generated one. What a key of 2048 bits can do, longer ones can that the token makes.
func (p *prober) rsa() error {
	if !p.has(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN) {
		return nil
	}
	if !p.has(pkcs11.CKM_RSA_PKCS_PSS) {
		p.t.dialect.without = append(p.t.dialect.without, pkcs11.CKM_RSA_PKCS_PSS)
	}
	if p.has(pkcs11.CKM_RSA_PKCS) {
		p.rsaSigning()
	}
	if p.has(pkcs11.CKM_RSA_PKCS_OAEP) {
		p.rsaDecryption()
	}
	return nil
}

// sizes offers the specifications whose size the token makes.
func (p *prober) sizes(specs ...hsm.KeySpec) {
	m := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)}
	limits, err := p.ctx().GetMechanismInfo(p.t.module.slot, m)
	for _, spec := range specs {
		bits := uint(8 * spec.Size())
		if err != nil || limits.MinKeySize <= bits && bits <= limits.MaxKeySize {
			p.offer(spec)
		}
	}
}

func (p *prober) rsaSigning() {
	h, public, done := p.rsaKey(hsm.RSA2048Sign)
	if public == nil {
		return
	}
	defer done()
	for _, scheme := range hsm.RSA2048Sign.Schemes() {
		input := randomInput(hsm.RSA2048Sign, scheme)
		signature, err := p.t.signOne(p.s, h, hsm.RSA2048Sign, scheme, input)
		if err == nil && verifies(public, scheme, input, signature) {
			p.offerScheme(scheme)
		}
	}
	if slices.Contains(p.info.Schemes, hsm.PKCS1SHA256) {
		p.sizes(hsm.RSA2048Sign, hsm.RSA3072Sign, hsm.RSA4096Sign)
	}
}

func (p *prober) rsaDecryption() {
	h, public, done := p.rsaKey(hsm.RSA2048Decrypt)
	if public == nil {
		return
	}
	defer done()
	labels := true
	for _, hash := range hsm.OAEPHashes() {
		if p.decrypts(h, public, hash, nil) {
			p.info.OAEP = append(p.info.OAEP, hash)
			labels = labels && p.decrypts(h, public, hash, []byte("label"))
		}
	}
	if len(p.info.OAEP) > 0 {
		p.info.OAEPLabels = labels
		p.sizes(hsm.RSA2048Decrypt, hsm.RSA3072Decrypt, hsm.RSA4096Decrypt)
	}
}

// decrypts has the token open what was encrypted here, and refuse what has another label.
func (p *prober) decrypts(h objectHandle, public *rsa.PublicKey, hash crypto.Hash, label []byte) bool {
	plaintext := []byte("keyholt probe")
	ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, public, plaintext, label)
	if err != nil {
		return false
	}
	other, err := rsa.EncryptOAEP(hash.New(), rand.Reader, public, plaintext, append([]byte("other"), label...))
	if err != nil {
		return false
	}
	items := []item{{input: ciphertext}, {input: other}}
	op := oaepOperation(hsm.RSA2048Decrypt, hash, label, p.t)
	_, err = p.t.cross(p.s, h, op, items, []int{0, 1})
	return err == nil && items[0].err == nil && bytes.Equal(items[0].output, plaintext) && items[1].err != nil
}

// rsaKey makes an RSA key of 2048 bits that may do what spec says. public is nil if the
// token makes none.
func (p *prober) rsaKey(spec hsm.KeySpec) (h objectHandle, public *rsa.PublicKey, done func()) {
	template := p.t.dialect.privateTemplate(spec, hsm.UID{}, "", false)
	if known, err := probeKey(); err == nil {
		created, err := p.ctx().CreateObject(p.session(), append(slices.Clone(template), privateKeyAttributes(known)...))
		if err == nil {
			h = objectHandle(created)
			return h, &known.PublicKey, func() { p.drop(h) }
		}
	}
	other, h, err := p.t.generatePair(p.s, spec, p.t.dialect.publicGenerateTemplate(hsm.RSA2048Sign, hsm.UID{}, "", false), template)
	if err != nil {
		return 0, nil, nil
	}
	key, err := p.t.publicKey(p.s, keyHandle{handle: h, public: other, spec: hsm.RSA2048Sign})
	if public, ok := key.(*rsa.PublicKey); err == nil && ok {
		return h, public, func() { p.drop(other, h) }
	}
	p.drop(other, h)
	return 0, nil, nil
}

// missingSpecs names what cannot be made.
func (p *prober) missingSpecs() error {
	slices.Sort(p.info.Specs)
	slices.Sort(p.info.Schemes)
	var missing []string
	for _, spec := range hsm.KeySpecs() {
		if spec != hsm.AES256GCM && !p.info.Supports(spec) { // which has a limitation of its own
			missing = append(missing, spec.String())
		}
	}
	if len(missing) > 0 {
		p.limit("key-specs", fmt.Sprintf("Keys of these kinds cannot be made: %s.", strings.Join(missing, ", ")))
	}
	return nil
}
