package pkcs11hsm

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// probe finds out what the token can do, by asking and by trying on keys that are
// session objects and gone afterwards. It refuses a token that is of no use.
func (t *Token) probe(ctx context.Context) error {
	s, err := t.openSession(ctx)
	if err != nil {
		return err
	}
	defer t.closeSession(s)
	t.module.calls.RLock()
	defer t.module.calls.RUnlock()
	p := &prober{t: t, s: s, info: &t.info}
	if err := p.describe(); err != nil {
		return err
	}
	for _, step := range []func() error{p.generation, p.mechanismLists, p.usageSwitch, p.labelSwitch, p.copying, p.sessionKeys, p.gcm,
		p.hmac, p.curves, p.rsa, p.imports, p.missingSpecs} {
		if err := step(); err != nil {
			return err
		}
	}
	if t.cfg.RequireAllowedMechanisms && !t.info.AllowedMechs {
		return &MissingError{"CKA_ALLOWED_MECHANISMS", "the token does not bind a key to one mechanism; " +
			"set hsm.require_allowed_mechanisms to false to accept that"}
	}
	for _, l := range t.info.Limitations {
		t.log.WarnContext(ctx, "token limitation", "name", l.Name, "detail", l.Detail)
	}
	return nil
}

// prober is a probe in progress. Its caller holds module.calls.
type prober struct {
	t    *Token
	s    *session
	info *hsm.Info

	mechanisms []uint
	blocks     objectHandle // a generated AES256Blocks session key
}

func (p *prober) ctx() *pkcs11.Ctx              { return p.t.module.ctx }
func (p *prober) session() pkcs11.SessionHandle { return pkcs11.SessionHandle(p.s.handle) }

func (p *prober) limit(name, detail string) {
	p.info.Limitations = append(p.info.Limitations, hsm.Limitation{Name: name, Detail: detail})
}

// describe fills in what module and token say of themselves, and checks that the
// mechanisms are there without which nothing works.
func (p *prober) describe() error {
	library, err := p.ctx().GetInfo()
	if err != nil {
		return wrap("C_GetInfo", err)
	}
	token := p.t.module.token
	*p.info = hsm.Info{
		Module:       p.t.module.path,
		Library:      fmt.Sprintf("%s %s", library.LibraryDescription, version(library.LibraryVersion)),
		CryptokiVer:  version(library.CryptokiVersion),
		Label:        token.Label,
		Serial:       token.SerialNumber,
		Manufacturer: token.ManufacturerID,
		Model:        token.Model,
		Firmware:     version(token.FirmwareVersion),
		Sessions:     p.t.cfg.Sessions,
	}
	list, err := p.ctx().GetMechanismList(p.t.module.slot)
	if err != nil {
		return wrap("C_GetMechanismList", err)
	}
	for _, m := range list {
		p.mechanisms = append(p.mechanisms, m.Mechanism)
	}
	slices.Sort(p.mechanisms)
	for _, m := range p.mechanisms {
		p.info.Mechanisms = append(p.info.Mechanisms, mechanismName(m))
	}
	for _, needed := range []uint{pkcs11.CKM_AES_KEY_GEN, pkcs11.CKM_AES_ECB} {
		if !p.has(needed) {
			return &MissingError{mechanismName(needed), "every key needs this mechanism; the token cannot be used"}
		}
	}
	return nil
}

func version(v pkcs11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

func (p *prober) has(mechanism uint) bool {
	_, ok := slices.BinarySearch(p.mechanisms, mechanism)
	return ok
}

// dialects in the order of preference.
var dialects = []dialect{
	{allowedMechanisms: true, copyable: true},
	{allowedMechanisms: true},
	{copyable: true},
	{},
}

// generation generates a session key, with as much of the template as the module
// takes.
func (p *prober) generation() error {
	var err error
	for _, d := range dialects {
		template := d.generateTemplate(hsm.AES256Blocks, hsm.UID{}, "", false)
		if p.blocks, err = p.t.generateSecret(p.s, hsm.AES256Blocks, template); err == nil {
			p.t.dialect = d
			p.info.Specs = []hsm.KeySpec{hsm.AES256Blocks}
			return nil
		}
		if c, _ := classOf(err); c != classUnsupported && c != classRequest && c != classAsk {
			return err
		}
	}
	return &MissingError{"CKM_AES_KEY_GEN", fmt.Sprintf("the token made no AES-256 key: %v", err)}
}

// mechanismLists finds out whether the key's list of mechanisms is kept, and whether
// another mechanism is then refused. If not, templates leave it out: NSS takes such
// attributes for session objects, passes them over, and fails for token objects.
func (p *prober) mechanismLists() error {
	if p.t.dialect.allowedMechanisms {
		q := search{p.t, p.s}
		set, err := q.attributes(p.blocks, []uint{pkcs11.CKA_ALLOWED_MECHANISMS})
		if err != nil {
			return err
		}
		kept := slices.Equal(ulongs(set[pkcs11.CKA_ALLOWED_MECHANISMS]), []uint{pkcs11.CKM_AES_ECB})
		for _, other := range []uint{pkcs11.CKM_AES_CBC, pkcs11.CKM_AES_CBC_PAD} {
			if kept && p.has(other) {
				if kept, err = p.refuses(other); err != nil {
					return err
				}
			}
		}
		p.info.AllowedMechs = kept
		p.t.dialect.allowedMechanisms = p.info.AllowedMechs
	}
	if !p.info.AllowedMechs {
		p.limit("allowed-mechanisms", "CKA_ALLOWED_MECHANISMS is not kept or not enforced: "+
			"whoever is logged in can use a key with every mechanism that its usage attributes permit.")
	}
	return nil
}

// refuses reports whether the key refuses a mechanism that its list does not name.
// The try has a session of its own, because one that succeeds leaves an operation
// active.
func (p *prober) refuses(mechanism uint) (bool, error) {
	session, err := p.ctx().OpenSession(p.t.module.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return false, wrap("C_OpenSession", err)
	}
	defer func() { _ = p.ctx().CloseSession(session) }()
	params := []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, make([]byte, aes.BlockSize))}
	err = p.ctx().EncryptInit(session, params, pkcs11.ObjectHandle(p.blocks))
	c, ok := classOf(wrap("C_EncryptInit", err))
	return ok && c == classForbidden, nil
}

// usageSwitch finds out whether turning CKA_ENCRYPT off stops the key and turning it
// on again revives it.
func (p *prober) usageSwitch() error {
	usable := func(on bool) bool {
		err := p.ctx().SetAttributeValue(p.session(), pkcs11.ObjectHandle(p.blocks), usageTemplate(hsm.AES256Blocks, on))
		if err != nil {
			return false
		}
		var block [hsm.BlockSize]byte
		c := p.t.module.lib.encryptBlocks(p.s.handle, p.blocks, make([]byte, hsm.BlockSize), block[:])
		if on {
			return c.rv == ckrOK
		}
		class, ok := classOf(crossed(c))
		return ok && class == classForbidden
	}
	switches := usable(false) && usable(true)
	// Without a list of mechanisms nothing on an object that is off tells what it
	// was, so it could not be turned on again.
	p.info.UsageSwitch = switches && p.t.dialect.allowedMechanisms
	switch {
	case !switches:
		p.limit("usage-switch", "The usage attributes of a key cannot be turned off: "+
			"a revoked or disabled key stays usable for whoever is logged in to the token.")
	case !p.info.UsageSwitch:
		p.limit("usage-switch", "Without CKA_ALLOWED_MECHANISMS a key that is turned off cannot be recognised: "+
			"a revoked or disabled key stays usable for whoever is logged in to the token.")
	}
	return nil
}

// labelSwitch finds out whether a label can be changed.
func (p *prober) labelSwitch() error {
	const label = "keyholt probe"
	if p.t.writeLabel(p.s, p.blocks, label) == nil {
		kept, err := p.t.labelOf(p.s, p.blocks)
		p.info.LabelSwitch = kept == label && err == nil
	}
	if !p.info.LabelSwitch {
		p.limit("label-switch", "The label of a key cannot be changed.")
	}
	return nil
}

// copying finds out whether CKA_COPYABLE = false prevents a copy. If not, templates
// leave it out.
func (p *prober) copying() error {
	copied, err := p.ctx().CopyObject(p.session(), pkcs11.ObjectHandle(p.blocks), []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
	})
	if err == nil {
		_ = p.ctx().DestroyObject(p.session(), copied)
		p.t.dialect.copyable = false
		p.limit("copyable", "CKA_COPYABLE is not honoured: whoever is logged in can copy a key inside the token, "+
			"and the copy survives the destruction of the key.")
	}
	_ = p.ctx().DestroyObject(p.session(), pkcs11.ObjectHandle(p.blocks))
	return nil
}

// sessionKeys imports the key of FIPS 197, appendix C.3, and compares what it
// computes with the standard's.
func (p *prober) sessionKeys() error {
	key, plaintext, want := make([]byte, hsm.AES256Blocks.Size()), make([]byte, hsm.BlockSize), []byte{
		0x8e, 0xa2, 0xb7, 0xca, 0x51, 0x67, 0x45, 0xbf, 0xea, 0xfc, 0x49, 0x90, 0x4b, 0x49, 0x60, 0x89,
	}
	for i := range key {
		key[i] = byte(i)
	}
	for i := range plaintext {
		plaintext[i] = byte(i * 0x11)
	}
	h, err := p.t.createSessionKey(p.s, hsm.UID{}, hsm.AES256Blocks, key)
	if err != nil {
		p.limit("session-keys", "A known key cannot be imported as a session object: "+
			"known answer tests of the token are not possible.")
		return nil
	}
	defer func() { _ = p.ctx().DestroyObject(p.session(), pkcs11.ObjectHandle(h)) }()
	got := make([]byte, hsm.BlockSize)
	c := p.t.module.lib.encryptBlocks(p.s.handle, h, got, plaintext)
	if err := crossed(c); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return &MissingError{"CKM_AES_ECB", "the token's AES is wrong: it fails the known answer of FIPS 197, C.3"}
	}
	p.info.SessionKeys = true
	return nil
}

// gcm finds out whether AES-256-GCM works and who chooses the nonce.
func (p *prober) gcm() error {
	const missing = "gcm"
	if !p.has(pkcs11.CKM_AES_GCM) {
		p.limit(missing, "CKM_AES_GCM is missing: keys of the STRICT profile cannot be made.")
		return nil
	}
	h, err := p.t.generateSecret(p.s, hsm.AES256GCM, p.t.dialect.generateTemplate(hsm.AES256GCM, hsm.UID{}, "", false))
	if err != nil {
		p.limit(missing, fmt.Sprintf("No key for CKM_AES_GCM can be made (%v): keys of the STRICT profile cannot be made.", err))
		return nil
	}
	defer func() { _ = p.ctx().DestroyObject(p.session(), pkcs11.ObjectHandle(h)) }()
	item, own, err := p.sealOne(h)
	if err != nil {
		p.limit(missing, fmt.Sprintf("CKM_AES_GCM does not work (%v): keys of the STRICT profile cannot be made.", err))
		return nil
	}
	open := []hsm.OpenItem{
		{Nonce: item.Nonce, Sealed: item.Sealed, AAD: item.AAD},
		{Nonce: item.Nonce, Sealed: bytes.Clone(item.Sealed), AAD: item.AAD},
	}
	open[1].Sealed[0] ^= 1
	if _, err := p.t.crossGCM(p.s, h, &openJob{open}, []int{0, 1}); err != nil {
		return err
	}
	if open[0].Err != nil || !bytes.Equal(open[0].Plaintext, item.Plaintext) || open[1].Err == nil {
		p.limit(missing, "CKM_AES_GCM does not open what it sealed: keys of the STRICT profile cannot be made.")
		return nil
	}
	p.info.Specs = append(p.info.Specs, hsm.AES256GCM)
	p.info.TokenNonces = own
	return nil
}

// sealOne seals an item. Where the module takes no nonce it is asked again without.
// own tells that the nonce was not the one it was given.
func (p *prober) sealOne(h objectHandle) (item hsm.SealItem, own bool, err error) {
	for _, p.t.nonceless = range []bool{false, true} {
		nonce := make([]byte, nonceBytes)
		rand.Read(nonce)
		job := &echoJob{sealJob{[]hsm.SealItem{{Plaintext: []byte("keyholt probe"), AAD: []byte("keyholt")}}}, nonce}
		_, err = p.t.crossGCM(p.s, h, job, []int{0})
		item = job.items[0]
		if err == nil && item.Err == nil {
			return item, !bytes.Equal(item.Nonce, nonce), nil
		}
	}
	p.t.nonceless = false
	if err == nil {
		err = item.Err
	}
	return item, false, err
}

// echoJob is a sealJob with a known nonce, to see whether the module keeps it.
type echoJob struct {
	sealJob
	nonce []byte
}

func (j *echoJob) parts(i int) (nonce, aad, input []byte, room int) {
	_, aad, input, room = j.sealJob.parts(i)
	return j.nonce, aad, input, room
}
