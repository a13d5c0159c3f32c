package pkcs11hsm

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// maxLabelBytes bounds the label of OAEP, which is mostly empty.
const maxLabelBytes = 64 << 10

// DecryptOAEP implements [hsm.Decrypter]. Every return code of C_Decrypt that does not tell
// of a lost session or token becomes the same error.
func (t *Token) DecryptOAEP(ctx context.Context, key hsm.UID, hash crypto.Hash, ciphertext, label []byte) ([]byte, error) {
	if !slices.Contains(hsm.OAEPHashes(), hash) || len(label) > maxLabelBytes {
		return nil, fmt.Errorf("%w: RSA-OAEP with %v and a label of %d bytes", hsm.ErrArgument, hash, len(label))
	}
	items := []item{{input: ciphertext}}
	err := t.run(ctx, key, items, func(spec hsm.KeySpec) (operation, error) {
		if spec.Usage() != hsm.UsageDecrypt {
			return operation{}, fmt.Errorf("%w: %s is no decryption key", hsm.ErrKeyNotPermitted, key)
		}
		if !t.info.Decrypts(hash) || len(label) > 0 && !t.info.OAEPLabels {
			return operation{}, fmt.Errorf("%w: RSA-OAEP with %v and a label of %d bytes", hsm.ErrUnsupported, hash, len(label))
		}
		return oaepOperation(spec, hash, label, t), hsm.CheckOAEP(spec, hash, ciphertext)
	})
	if err != nil {
		return nil, err
	}
	defer clear(items[0].output)
	return bytes.Clone(items[0].output), items[0].err
}

// oaepOperation is C_Decrypt with RSA-OAEP. Modules want room for a whole modulus.
func oaepOperation(spec hsm.KeySpec, hash crypto.Hash, label []byte, t *Token) operation {
	return operation{spec: spec, mechanism: oaepMechanism(hash, label), decrypt: true, room: spec.Size(), count: &t.calls.decryptOAEP}
}

func oaepMechanism(hash crypto.Hash, label []byte) mechanism {
	number, mgf := hashNumbers(hash)
	return mechanism{number: pkcs11.CKM_RSA_PKCS_OAEP, parameters: parametersOAEP, hash: number, mgf: mgf, label: label}
}
