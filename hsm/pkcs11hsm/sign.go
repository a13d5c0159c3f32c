package pkcs11hsm

import (
	"context"
	"crypto"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// Sign implements [hsm.Signer].
func (t *Token) Sign(ctx context.Context, key hsm.UID, scheme hsm.Scheme, input []byte) ([]byte, error) {
	items := []item{{input: input}}
	if err := t.sign(ctx, key, scheme, items); err != nil {
		return nil, err
	}
	return items[0].output, items[0].err
}

// SignBatch implements [hsm.Signer].
func (t *Token) SignBatch(ctx context.Context, key hsm.UID, scheme hsm.Scheme, batch []hsm.SignItem) error {
	items := make([]item, len(batch))
	for i := range batch {
		items[i].input = batch[i].Input
	}
	err := t.sign(ctx, key, scheme, items)
	for i := range batch {
		batch[i].Signature, batch[i].Err = items[i].output, items[i].err
	}
	return err
}

// sign signs items. The error, after which no item has an output, concerns all of them.
func (t *Token) sign(ctx context.Context, key hsm.UID, scheme hsm.Scheme, items []item) error {
	if len(items) == 0 {
		return fmt.Errorf("%w: no items", hsm.ErrArgument)
	}
	if !scheme.Valid() {
		return fmt.Errorf("%w: signature scheme %d", hsm.ErrArgument, scheme)
	}
	return t.run(ctx, key, items, func(spec hsm.KeySpec) (operation, error) {
		if err := hsm.CheckScheme(spec, scheme); err != nil {
			return operation{}, err
		}
		if !slices.Contains(t.info.Schemes, scheme) {
			return operation{}, fmt.Errorf("%w: %s", hsm.ErrUnsupported, scheme)
		}
		for i := range items {
			it := &items[i]
			if it.err = hsm.CheckSignInput(spec, scheme, it.input); it.err == nil {
				it.input = toBeSigned(scheme, it.input)
			}
		}
		return signOperation(spec, scheme, t), nil
	})
}

// signOperation is C_Sign as the scheme has it.
func signOperation(spec hsm.KeySpec, scheme hsm.Scheme, t *Token) operation {
	return operation{spec: spec, mechanism: signMechanism(scheme), room: spec.OutputSize(), count: &t.calls.sign}
}

func signMechanism(scheme hsm.Scheme) mechanism {
	switch {
	case scheme == hsm.ECDSA:
		return mechanism{number: pkcs11.CKM_ECDSA}
	case scheme == hsm.PureEd25519:
		return mechanism{number: ckmEdDSA}
	case scheme.IsPSS():
		hash, mgf := hashNumbers(scheme.Hash())
		return mechanism{number: pkcs11.CKM_RSA_PKCS_PSS, parameters: parametersPSS,
			hash: hash, mgf: mgf, salt: uint(scheme.Hash().Size())}
	default:
		return mechanism{number: pkcs11.CKM_RSA_PKCS}
	}
}

// hashNumbers are PKCS#11's numbers of a hash and of MGF1 with it.
func hashNumbers(hash crypto.Hash) (mechanism, mgf uint) {
	switch hash {
	case crypto.SHA1:
		return pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1
	case crypto.SHA256:
		return pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256
	case crypto.SHA384:
		return pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384
	case crypto.SHA512:
		return pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512
	default:
		return 0, 0
	}
}

// DER of a DigestInfo (RFC 8017, appendix A.2.4) up to the digest: section 9.2, note 1.
var (
	digestInfoSHA256 = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	digestInfoSHA384 = []byte{0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30}
	digestInfoSHA512 = []byte{0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}
)

// toBeSigned is what C_Sign gets: CKM_RSA_PKCS adds the padding and leaves the DigestInfo
// to us. All other mechanisms take the input as it is.
func toBeSigned(scheme hsm.Scheme, input []byte) []byte {
	switch scheme {
	case hsm.PKCS1SHA256:
		return slices.Concat(digestInfoSHA256, input)
	case hsm.PKCS1SHA384:
		return slices.Concat(digestInfoSHA384, input)
	case hsm.PKCS1SHA512:
		return slices.Concat(digestInfoSHA512, input)
	default:
		return input
	}
}
