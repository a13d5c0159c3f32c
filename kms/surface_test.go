package kms_test

import (
	"crypto"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// operation is a call on one key, for tables of them.
type operation struct {
	action kms.Action
	call   func(w *world, p kms.Principal, name kms.KeyName) error
}

// keyOperations are all operations under a key, each in a form that a key of the right
// purpose and the default algorithm serves, or refuses for its input only.
func keyOperations() []operation {
	message := []byte("c0nfidential")
	return []operation{
		{kms.ActionEncrypt, func(w *world, p kms.Principal, name kms.KeyName) error {
			_, err := w.service.Encrypt(w.t.Context(), p, &kms.EncryptRequest{Key: name, Plaintext: message})
			return err
		}},
		{kms.ActionBatchEncrypt, func(w *world, p kms.Principal, name kms.KeyName) error {
			r, err := w.service.BatchEncrypt(w.t.Context(), p, &kms.BatchEncryptRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.PayloadItem{{Plaintext: message}},
			})
			if err == nil {
				err = r[0].Err
			}
			return err
		}},
		{kms.ActionGenerateDataKey, func(w *world, p kms.Principal, name kms.KeyName) error {
			_, err := w.service.GenerateDataKeys(w.t.Context(), p, &kms.GenerateDataKeysRequest{Key: name})
			return err
		}},
		{kms.ActionWrapDataKey, func(w *world, p kms.Principal, name kms.KeyName) error {
			r, err := w.service.WrapDataKeys(w.t.Context(), p, &kms.WrapDataKeysRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.DataKeyItem{{DataKey: make([]byte, 32)}},
			})
			if err == nil {
				err = r[0].Err
			}
			return err
		}},
		{kms.ActionSign, func(w *world, p kms.Principal, name kms.KeyName) error {
			_, err := w.service.Sign(w.t.Context(), p, &kms.SignRequest{Key: name, Message: message})
			return err
		}},
		{kms.ActionBatchSign, func(w *world, p kms.Principal, name kms.KeyName) error {
			r, err := w.service.BatchSign(w.t.Context(), p, &kms.BatchSignRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.SignItem{{Message: message}},
			})
			if err == nil {
				err = r[0].Err
			}
			return err
		}},
		{kms.ActionVerify, func(w *world, p kms.Principal, name kms.KeyName) error {
			_, err := w.service.Verify(w.t.Context(), p, &kms.VerifyRequest{Key: name, Message: message, Signature: message})
			return err
		}},
		{kms.ActionGetPublicKey, func(w *world, p kms.Principal, name kms.KeyName) error {
			_, err := w.service.GetPublicKey(w.t.Context(), p, &kms.GetPublicKeyRequest{Key: name})
			return err
		}},
		{kms.ActionGenerateMac, func(w *world, p kms.Principal, name kms.KeyName) error {
			_, err := w.service.GenerateMac(w.t.Context(), p, &kms.GenerateMacRequest{Key: name, Message: message})
			return err
		}},
		{kms.ActionBatchMac, func(w *world, p kms.Principal, name kms.KeyName) error {
			r, err := w.service.BatchGenerateMac(w.t.Context(), p, &kms.BatchGenerateMacRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.MacItem{{Message: message}},
			})
			if err == nil {
				err = r[0].Err
			}
			return err
		}},
		{kms.ActionVerifyMac, func(w *world, p kms.Principal, name kms.KeyName) error {
			_, err := w.service.VerifyMac(w.t.Context(), p, &kms.VerifyMacRequest{Key: name, Message: message, Mac: message})
			return err
		}},
		{kms.ActionBatchVerifyMac, func(w *world, p kms.Principal, name kms.KeyName) error {
			r, err := w.service.BatchVerifyMac(w.t.Context(), p, &kms.BatchVerifyMacRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.MacItem{{Message: message, Mac: message}},
			})
			if err == nil {
				err = r[0].Err
			}
			return err
		}},
		{kms.ActionAsymDecrypt, func(w *world, p kms.Principal, name kms.KeyName) error {
			_, err := w.service.AsymmetricDecrypt(w.t.Context(), p, &kms.AsymmetricDecryptRequest{Key: name, Ciphertext: make([]byte, 256)})
			return err
		}},
	}
}

// served says what becomes of an operation under a key of the purpose: nil, or an error
// that has to do with the input; ErrPurpose where the purpose forbids it.
func served(p kms.Purpose, a kms.Action) error {
	allowed := map[kms.Action][]kms.Purpose{
		kms.ActionEncrypt:         {kms.PurposeEncryptDecrypt},
		kms.ActionBatchEncrypt:    {kms.PurposeEncryptDecrypt},
		kms.ActionGenerateDataKey: {kms.PurposeEncryptDecrypt},
		kms.ActionWrapDataKey:     {kms.PurposeEncryptDecrypt},
		kms.ActionSign:            {kms.PurposeAsymmetricSign},
		kms.ActionBatchSign:       {kms.PurposeAsymmetricSign},
		kms.ActionVerify:          {kms.PurposeAsymmetricSign},
		kms.ActionGetPublicKey:    {kms.PurposeAsymmetricSign, kms.PurposeAsymmetricDecrypt},
		kms.ActionGenerateMac:     {kms.PurposeMAC},
		kms.ActionBatchMac:        {kms.PurposeMAC},
		kms.ActionVerifyMac:       {kms.PurposeMAC},
		kms.ActionBatchVerifyMac:  {kms.PurposeMAC},
		kms.ActionAsymDecrypt:     {kms.PurposeAsymmetricDecrypt},
	}
	for _, one := range allowed[a] {
		if one == p {
			if a == kms.ActionAsymDecrypt {
				return kms.ErrDecryptionFailed // it was no ciphertext
			}
			return nil
		}
	}
	return kms.ErrPurpose
}

// Every purpose refuses every operation that is not its own, and a stranger learns
// nothing of the purpose. Nothing of it reaches the token.
func TestPurposeByOperation(t *testing.T) {
	t.Parallel()
	w := newKeyWorld(t, nil)
	for _, p := range kms.Purposes() {
		a := p.DefaultAlgorithm()
		if a == 0 {
			a = kms.AlgorithmRSA2048OAEPSHA256
		}
		name := w.createKey(strings.ToLower(strings.ReplaceAll(p.String(), "_", "-")), a)
		for _, op := range keyOperations() {
			what := fmt.Sprintf("%s under a key of %s", op.action, p)
			wantError(t, op.call(w, stranger, name), kms.ErrNotAccessible, what+" by a stranger")
			err := op.call(w, admin, name)
			if want := served(p, op.action); want != nil {
				wantError(t, err, want, what)
			} else if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	// A ciphertext that names a version of another purpose was made up.
	uid := w.uid(keyName(t, "mac").Version(1))
	made := append([]byte{'K', 'H', 1, 1}, uid[:]...)
	_, err := w.decrypt(keyName(t, "mac"), append(made, make([]byte, 24+16+5)...))
	wantError(t, err, kms.ErrPurpose, "Decrypt of a blob that names a MAC key")
}

// Each operation is recorded under its action with the version, and nothing of what was
// signed, authenticated or decrypted.
func TestRecordsOfKeyOperations(t *testing.T) {
	t.Parallel()
	w := newKeyWorld(t, nil)
	for _, p := range kms.Purposes()[1:] {
		a := p.DefaultAlgorithm()
		if a == 0 {
			a = kms.AlgorithmRSA2048OAEPSHA256
		}
		name := w.createKey(strings.ToLower(strings.ReplaceAll(p.String(), "_", "-")), a)
		for _, op := range keyOperations() {
			outcome := served(p, op.action)
			if outcome == kms.ErrPurpose { //nolint:errorlint // a sentinel of the table above
				continue
			}
			_ = op.call(w, admin, name)
			e := w.auditor.last()
			if e.Action != op.action || e.Namespace != name.Namespace() || len(e.Items) != 1 || e.Items[0].Count != 1 ||
				e.Items[0].Version != name.Version(1) || (e.Items[0].Err != nil) != (outcome != nil) || e.Err != nil ||
				e.Items[0].Verdict != verdictOf(op.action) || e.Revision == 0 || e.CheckedAt == 0 {
				t.Errorf("the record of %s: %+v", op.action, e)
			}
			if text := fmt.Sprintf("%+v", e); strings.Contains(text, "c0nfidential") {
				t.Errorf("the record of %s tells what was signed: %s", op.action, text)
			}
		}
	}
}

// verdictOf is what is recorded of an operation of the table: what those that verify are
// given is never good.
func verdictOf(a kms.Action) kms.Verdict {
	if a == kms.ActionVerify || a == kms.ActionVerifyMac || a == kms.ActionBatchVerifyMac {
		return kms.VerdictInvalid
	}
	return 0
}

// Every signing algorithm refuses what it does not sign, with a typed error each, and
// asks the token for nothing.
func TestWrongInputsOfEveryAlgorithm(t *testing.T) {
	t.Parallel()
	for _, a := range algorithmsOf(kms.PurposeAsymmetricSign) {
		t.Run(a.String(), func(t *testing.T) {
			t.Parallel()
			w := newKeyWorld(t, nil)
			name := w.createKey("k", a)
			type wrong struct {
				what string
				r    kms.SignRequest
				want error
			}
			tests := []wrong{
				{"nothing", kms.SignRequest{}, kms.ErrInvalidRequest},
				{"empty", kms.SignRequest{Digest: []byte{}, Message: []byte{}}, kms.ErrInvalidRequest},
				{"both", kms.SignRequest{Digest: make([]byte, 32), Message: []byte("m")}, kms.ErrInvalidRequest},
				{"hash of a message", kms.SignRequest{Message: []byte("m"), DigestHash: crypto.SHA256}, kms.ErrInvalidRequest},
				{"message too long", kms.SignRequest{Message: make([]byte, kms.MaxMessage+1)}, kms.ErrLimitExceeded},
				{"digest too long", kms.SignRequest{Digest: make([]byte, 65)}, kms.ErrLimitExceeded},
				{"format", kms.SignRequest{Message: []byte("m"), Format: 9}, kms.ErrInvalidRequest},
			}
			for size := 1; size <= 64; size++ {
				switch {
				case a.SignsMessages():
					tests = append(tests, wrong{"a digest", kms.SignRequest{Digest: make([]byte, size)}, kms.ErrHashMismatch})
				case size != a.Hash().Size():
					tests = append(tests, wrong{fmt.Sprint("a digest of ", size), kms.SignRequest{Digest: make([]byte, size)}, kms.ErrDigestLength})
				}
			}
			for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, 99} {
				size := 32
				if h < 20 {
					size = h.Size()
				}
				if h != a.Hash() {
					tests = append(tests, wrong{fmt.Sprint("hash ", uint(h)), kms.SignRequest{Digest: make([]byte, size), DigestHash: h}, kms.ErrHashMismatch})
				}
			}
			before := w.faults.Count(hsmtest.MethodSign) + w.faults.Count(hsmtest.MethodSignBatch)
			for _, test := range tests {
				test.r.Key = name
				_, err := w.service.Sign(t.Context(), admin, &test.r)
				wantError(t, err, test.want, "Sign "+test.what)
				_, err = w.service.Verify(t.Context(), admin, &kms.VerifyRequest{
					Key: name, Digest: test.r.Digest, DigestHash: test.r.DigestHash, Message: test.r.Message,
					Format: test.r.Format, Signature: []byte{1},
				})
				wantError(t, err, test.want, "Verify "+test.what)
				if test.r.Format != 0 {
					continue
				}
				items := []kms.SignItem{{Digest: test.r.Digest, DigestHash: test.r.DigestHash, Message: test.r.Message}}
				results, err := w.service.BatchSign(t.Context(), admin, &kms.BatchSignRequest{Parent: name.Namespace(), Key: name, Items: items})
				if err != nil {
					t.Fatal(err)
				}
				wantError(t, results[0].Err, test.want, "BatchSign "+test.what)
			}
			if n := w.faults.Count(hsmtest.MethodSign) + w.faults.Count(hsmtest.MethodSignBatch); n != before {
				t.Errorf("the token was asked %d times", n-before)
			}
			for what, r := range map[string]*kms.VerifyRequest{
				"no signature":  {Key: name, Message: []byte("m")},
				"no signature ": {Key: name, Message: []byte("m"), Signature: []byte{}},
			} {
				_, err := w.service.Verify(t.Context(), admin, r)
				wantError(t, err, kms.ErrInvalidRequest, what)
			}
			_, err := w.service.Verify(t.Context(), admin,
				&kms.VerifyRequest{Key: name, Message: []byte("m"), Signature: make([]byte, kms.MaxSignature+1)})
			wantError(t, err, kms.ErrLimitExceeded, "a signature that is too long")
			for _, size := range []int{1, a.OutputSize() - 1, a.OutputSize(), a.OutputSize() + 1} {
				for _, format := range []kms.SignatureFormat{kms.SignatureDER, kms.SignatureRaw} {
					w.wantVerdict(false, &kms.VerifyRequest{Key: name, Message: []byte("m"), Signature: make([]byte, size), Format: format})
				}
			}
		})
	}
}

// The other operations refuse empty and oversized input, names that are none, and batches
// beyond the limits.
func TestLimitsOfKeyOperations(t *testing.T) {
	t.Parallel()
	w := newKeyWorld(t, nil)
	mac, sign := w.createKey("mac", kms.AlgorithmHMACSHA256), w.createKey("sign", kms.AlgorithmECP256SHA256)
	decrypt := w.createKey("decrypt", kms.AlgorithmRSA2048OAEPSHA256)
	long := make([]byte, kms.MaxMessage+1)
	generate := func(r kms.GenerateMacRequest) error {
		_, err := w.service.GenerateMac(t.Context(), admin, &r)
		return err
	}
	verify := func(r kms.VerifyMacRequest) error {
		_, err := w.service.VerifyMac(t.Context(), admin, &r)
		return err
	}
	open := func(r kms.AsymmetricDecryptRequest) error {
		_, err := w.service.AsymmetricDecrypt(t.Context(), admin, &r)
		return err
	}
	signs := func(r kms.SignRequest) error {
		_, err := w.service.Sign(t.Context(), admin, &r)
		return err
	}
	public := func(r kms.GetPublicKeyRequest) error {
		_, err := w.service.GetPublicKey(t.Context(), admin, &r)
		return err
	}
	signBatch := func(r kms.BatchSignRequest) error {
		_, err := w.service.BatchSign(t.Context(), admin, &r)
		return err
	}
	macBatch := func(r kms.BatchGenerateMacRequest) error {
		results, err := w.service.BatchGenerateMac(t.Context(), admin, &r)
		if err == nil {
			err = results[0].Err
		}
		return err
	}
	namespace := mac.Namespace()
	m, many := []byte("m"), make([]kms.SignItem, 33)
	for i := range many {
		many[i].Message = long[1:]
	}
	for what, test := range map[string]struct{ err, want error }{
		"MAC of nothing":             {generate(kms.GenerateMacRequest{Key: mac}), kms.ErrInvalidRequest},
		"MAC of too much":            {generate(kms.GenerateMacRequest{Key: mac, Message: long}), kms.ErrLimitExceeded},
		"MAC, no key":                {generate(kms.GenerateMacRequest{Message: m}), kms.ErrInvalidRequest},
		"MAC, key and version":       {generate(kms.GenerateMacRequest{Key: mac, Version: mac.Version(1), Message: m}), kms.ErrInvalidRequest},
		"MAC, no such key":           {generate(kms.GenerateMacRequest{Key: keyName(t, "none"), Message: m}), kms.ErrKeyNotFound},
		"MAC, no such version":       {generate(kms.GenerateMacRequest{Version: mac.Version(2), Message: m}), kms.ErrVersionNotFound},
		"verify MAC, nothing":        {verify(kms.VerifyMacRequest{Key: mac, Mac: m}), kms.ErrInvalidRequest},
		"verify MAC, no MAC":         {verify(kms.VerifyMacRequest{Key: mac, Message: m}), kms.ErrInvalidRequest},
		"verify MAC, long MAC":       {verify(kms.VerifyMacRequest{Key: mac, Message: m, Mac: long}), kms.ErrLimitExceeded},
		"verify MAC, too much":       {verify(kms.VerifyMacRequest{Key: mac, Message: long, Mac: m}), kms.ErrLimitExceeded},
		"decrypt nothing":            {open(kms.AsymmetricDecryptRequest{Key: decrypt}), kms.ErrInvalidRequest},
		"decrypt too much":           {open(kms.AsymmetricDecryptRequest{Key: decrypt, Ciphertext: long}), kms.ErrLimitExceeded},
		"sign, no key":               {signs(kms.SignRequest{Message: m}), kms.ErrInvalidRequest},
		"public key, no key":         {public(kms.GetPublicKeyRequest{}), kms.ErrInvalidRequest},
		"public key, unknown format": {public(kms.GetPublicKeyRequest{Key: sign, Format: 9}), kms.ErrInvalidRequest},
		"batch without parent":       {signBatch(kms.BatchSignRequest{Key: sign, Items: many[:1]}), kms.ErrInvalidRequest},
		"batch without items":        {signBatch(kms.BatchSignRequest{Parent: namespace, Key: sign}), kms.ErrInvalidRequest},
		"batch of key and version": {signBatch(kms.BatchSignRequest{
			Parent: namespace, Key: sign, Version: sign.Version(1), Items: many[:1]}), kms.ErrInvalidRequest},
		"batch of too many items": {signBatch(kms.BatchSignRequest{
			Parent: namespace, Key: sign, Items: make([]kms.SignItem, kms.MaxItems+1)}), kms.ErrLimitExceeded},
		"batch of too many bytes": {signBatch(kms.BatchSignRequest{Parent: namespace, Key: sign, Items: many}), kms.ErrLimitExceeded},
		"batch with an unknown format": {signBatch(kms.BatchSignRequest{
			Parent: namespace, Key: sign, Items: many[:1], Format: 7}), kms.ErrInvalidRequest},
		"MAC batch with a MAC": {macBatch(kms.BatchGenerateMacRequest{
			Parent: namespace, Key: mac, Items: []kms.MacItem{{Message: m, Mac: m}}}), kms.ErrInvalidRequest},
		"MAC batch of another namespace's key": {macBatch(kms.BatchGenerateMacRequest{
			Parent: namespaceName(t, "shop"), Key: mac, Items: []kms.MacItem{{Message: m}}}), kms.ErrNotAccessible},
	} {
		wantError(t, test.err, test.want, what)
	}
	if err := generate(kms.GenerateMacRequest{Key: mac, Message: long[1:]}); err != nil {
		t.Errorf("the longest message: %v", err)
	}
}

func namespaceName(t testing.TB, id string) kms.NamespaceName {
	t.Helper()
	name, err := kms.NewNamespaceName(id)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// What a token lacks is refused before anything is made, and the refusal says what is
// missing and what there is instead.
func TestAlgorithmsThatTheTokenLacks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what      string
		memory    hsmtest.MemoryConfig
		algorithm kms.Algorithm
		says      []string
	}{
		{"OAEP with SHA-256", hsmtest.MemoryConfig{NoOAEPSHA256: true, RSAKeys: &rsaKeys}, kms.AlgorithmRSA2048OAEPSHA256,
			[]string{"RSA-OAEP with SHA-256", "RSA_DECRYPT_OAEP_2048_SHA1"}},
		{"Ed25519", hsmtest.MemoryConfig{Specs: []hsm.KeySpec{hsm.AES256Blocks, hsm.ECDSAP256}}, kms.AlgorithmEd25519,
			[]string{"ED25519", "it has EC_SIGN_P256_SHA256"}},
		{"MACs", hsmtest.MemoryConfig{Specs: []hsm.KeySpec{hsm.AES256Blocks}}, kms.AlgorithmHMACSHA384,
			[]string{"HMAC_SHA384", "it has none of MAC"}},
		{"one of many", hsmtest.MemoryConfig{Specs: slices.DeleteFunc(hsm.KeySpecs(), func(s hsm.KeySpec) bool { return s == hsm.Ed25519 })},
			kms.AlgorithmEd25519, []string{"it has EC_SIGN_P256_SHA256, EC_SIGN_P384_SHA384, ", "RSA_SIGN_PKCS1_2048_SHA512, ", " more"}},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.memory, nil)
			name := keyName(t, "k")
			_, err := w.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: name, Algorithm: test.algorithm})
			wantError(t, err, kms.ErrUnsupported, "CreateKey")
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if told := wire.ToStatus(err, nil).Message(); told != err.Error() {
				t.Errorf("%q is cut on its way: %q", err, told)
			}
			if n := w.faults.Count(hsmtest.MethodGenerateKey); n != 1 { // the seal key
				t.Errorf("%d keys were made", n)
			}
			_, err = w.service.GetKey(t.Context(), admin, name)
			wantError(t, err, kms.ErrKeyNotFound, "GetKey")
		})
	}
}
