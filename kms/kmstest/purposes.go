package kmstest

import (
	"errors"
	"slices"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

// keyOperation is an operation under a key, as one that the caller may do or not.
type keyOperation struct {
	name     string
	purposes []kms.Purpose // of the keys that it is for
	// call does it. Under a key of a right purpose the outcome is outcome.
	call    func(s *suite, c Caller, name kms.KeyName) error
	outcome error
}

var encryption = []kms.Purpose{kms.PurposeEncryptDecrypt}

func keyOperations() []keyOperation {
	message := []byte("message")
	blob := func(s *suite, name kms.KeyName) []byte { // that names the first version of the key, whatever it is
		uid := s.mustGetVersion(name.Version(1)).UID
		return append(append([]byte("KH\x01\x01"), uid[:]...), make([]byte, 60)...)
	}
	wrapped := func(s *suite, name kms.KeyName) []byte {
		b := blob(s, name)
		b[3] = 2
		return b
	}
	return []keyOperation{
		{"Encrypt", encryption, func(s *suite, c Caller, name kms.KeyName) error {
			_, err := c.API.Encrypt(s.ctx, c.Principal, &kms.EncryptRequest{Key: name, Plaintext: message})
			return err
		}, nil},
		{"Decrypt", encryption, func(s *suite, c Caller, name kms.KeyName) error {
			_, err := c.API.Decrypt(s.ctx, c.Principal, &kms.DecryptRequest{Parent: name.Namespace(), Ciphertext: blob(s, name)})
			return err
		}, kms.ErrDecryptionFailed},
		{"ReEncrypt", encryption, func(s *suite, c Caller, name kms.KeyName) error {
			_, err := c.API.ReEncrypt(s.ctx, c.Principal, &kms.ReEncryptRequest{Parent: name.Namespace(), Ciphertext: blob(s, name)})
			return err
		}, kms.ErrDecryptionFailed},
		{"BatchEncrypt", encryption, func(s *suite, c Caller, name kms.KeyName) error {
			return firstOf(c.API.BatchEncrypt(s.ctx, c.Principal, &kms.BatchEncryptRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.PayloadItem{{Plaintext: message}},
			}))(func(r kms.PayloadResult) error { return r.Err })
		}, nil},
		{"BatchDecrypt", encryption, func(s *suite, c Caller, name kms.KeyName) error {
			return firstOf(c.API.BatchDecrypt(s.ctx, c.Principal, &kms.BatchDecryptRequest{
				Parent: name.Namespace(), Items: []kms.PayloadItem{{Ciphertext: blob(s, name)}},
			}))(func(r kms.PayloadResult) error { return r.Err })
		}, kms.ErrDecryptionFailed},
		{"GenerateDataKeys", encryption, func(s *suite, c Caller, name kms.KeyName) error {
			return firstOf(c.API.GenerateDataKeys(s.ctx, c.Principal, &kms.GenerateDataKeysRequest{Key: name}))(dataKeyError)
		}, nil},
		{"WrapDataKeys", encryption, func(s *suite, c Caller, name kms.KeyName) error {
			return firstOf(c.API.WrapDataKeys(s.ctx, c.Principal, &kms.WrapDataKeysRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.DataKeyItem{{DataKey: make(kms.Secret, 32)}},
			}))(dataKeyError)
		}, nil},
		{"UnwrapDataKeys", encryption, func(s *suite, c Caller, name kms.KeyName) error {
			return firstOf(c.API.UnwrapDataKeys(s.ctx, c.Principal, &kms.UnwrapDataKeysRequest{
				Parent: name.Namespace(), Items: []kms.DataKeyItem{{Wrapped: wrapped(s, name)}},
			}))(dataKeyError)
		}, kms.ErrDecryptionFailed},
		{"RewrapDataKeys", encryption, func(s *suite, c Caller, name kms.KeyName) error {
			return firstOf(c.API.RewrapDataKeys(s.ctx, c.Principal, &kms.RewrapDataKeysRequest{
				Parent: name.Namespace(), Items: []kms.DataKeyItem{{Wrapped: wrapped(s, name)}},
			}))(dataKeyError)
		}, kms.ErrDecryptionFailed},

		{"Sign", []kms.Purpose{kms.PurposeAsymmetricSign}, func(s *suite, c Caller, name kms.KeyName) error {
			_, err := c.API.Sign(s.ctx, c.Principal, &kms.SignRequest{Key: name, Message: message})
			return err
		}, nil},
		{"Sign by a version", []kms.Purpose{kms.PurposeAsymmetricSign}, func(s *suite, c Caller, name kms.KeyName) error {
			_, err := c.API.Sign(s.ctx, c.Principal, &kms.SignRequest{Version: name.Version(1), Digest: make([]byte, 32)})
			return err
		}, nil},
		{"BatchSign", []kms.Purpose{kms.PurposeAsymmetricSign}, func(s *suite, c Caller, name kms.KeyName) error {
			return firstOf(c.API.BatchSign(s.ctx, c.Principal, &kms.BatchSignRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.SignItem{{Message: message}},
			}))(func(r kms.SignResult) error { return r.Err })
		}, nil},
		{"Verify", []kms.Purpose{kms.PurposeAsymmetricSign}, func(s *suite, c Caller, name kms.KeyName) error {
			_, err := c.API.Verify(s.ctx, c.Principal, &kms.VerifyRequest{Key: name, Message: message, Signature: []byte("s")})
			return err
		}, nil},
		{"GetPublicKey", []kms.Purpose{kms.PurposeAsymmetricSign, kms.PurposeAsymmetricDecrypt}, func(s *suite, c Caller, name kms.KeyName) error {
			_, err := c.API.GetPublicKey(s.ctx, c.Principal, &kms.GetPublicKeyRequest{Key: name})
			return err
		}, nil},
		{"AsymmetricDecrypt", []kms.Purpose{kms.PurposeAsymmetricDecrypt}, func(s *suite, c Caller, name kms.KeyName) error {
			_, err := c.API.AsymmetricDecrypt(s.ctx, c.Principal, &kms.AsymmetricDecryptRequest{Key: name, Ciphertext: make([]byte, 256)})
			return err
		}, kms.ErrDecryptionFailed},
		{"GenerateMac", []kms.Purpose{kms.PurposeMAC}, func(s *suite, c Caller, name kms.KeyName) error {
			_, err := c.API.GenerateMac(s.ctx, c.Principal, &kms.GenerateMacRequest{Key: name, Message: message})
			return err
		}, nil},
		{"BatchGenerateMac", []kms.Purpose{kms.PurposeMAC}, func(s *suite, c Caller, name kms.KeyName) error {
			return firstOf(c.API.BatchGenerateMac(s.ctx, c.Principal, &kms.BatchGenerateMacRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.MacItem{{Message: message}},
			}))(func(r kms.MacResult) error { return r.Err })
		}, nil},
		{"VerifyMac", []kms.Purpose{kms.PurposeMAC}, func(s *suite, c Caller, name kms.KeyName) error {
			_, err := c.API.VerifyMac(s.ctx, c.Principal, &kms.VerifyMacRequest{Key: name, Message: message, Mac: []byte("m")})
			return err
		}, nil},
		{"BatchVerifyMac", []kms.Purpose{kms.PurposeMAC}, func(s *suite, c Caller, name kms.KeyName) error {
			return firstOf(c.API.BatchVerifyMac(s.ctx, c.Principal, &kms.BatchVerifyMacRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.MacItem{{Message: message, Mac: []byte("m")}},
			}))(func(r kms.VerifyMacResult) error { return r.Err })
		}, nil},
	}
}

func dataKeyError(r kms.DataKeyResult) error { return r.Err }

// firstOf is the error of a batch of one, or of its item.
func firstOf[R any](results []R, err error) func(func(R) error) error {
	return func(errorOf func(R) error) error {
		switch {
		case err != nil:
			return err
		case len(results) != 1:
			return errors.New("not one result")
		}
		return errorOf(results[0])
	}
}

// keysOfEachPurpose makes one key per purpose that the token supports.
func (s *suite) keysOfEachPurpose() map[kms.Purpose]kms.KeyName {
	s.Helper()
	keys := map[kms.Purpose]kms.KeyName{
		kms.PurposeEncryptDecrypt: s.mustCreate("encrypt", kms.ProfileDerived),
		kms.PurposeAsymmetricSign: s.mustCreateAlgorithm("sign", kms.AlgorithmECP256SHA256),
		kms.PurposeMAC:            s.mustCreateAlgorithm("mac", kms.AlgorithmHMACSHA256),
	}
	for _, a := range algorithms(kms.PurposeAsymmetricDecrypt) {
		if _, err := s.createAlgorithm(s.key("decrypt"), a); err == nil {
			keys[kms.PurposeAsymmetricDecrypt] = s.key("decrypt")
			return keys
		}
	}
	s.Fatal("the token decrypts with no RSA key")
	return nil
}

// Every purpose refuses every operation that is not its own, and says so to those only who
// may do it.
func testPurposes(t *testing.T, s *suite) {
	keys := s.keysOfEachPurpose()
	refused := 0
	for _, op := range keyOperations() {
		for purpose, name := range keys {
			doing := op.name + " under a key for " + purpose.String()
			err := op.call(s, s.Admin, name)
			switch {
			case !slices.Contains(op.purposes, purpose):
				refused++
				e := wantRefusal(t, err, kms.ErrPurpose, doing)
				wantMetadata(t, e, "purpose", purpose.String())
				wantMetadata(t, e, "key", name.String())
			case op.outcome != nil:
				wantError(t, err, op.outcome, doing)
			default:
				wantOK(t, err, doing)
			}
		}
	}
	if refused < 3*len(keyOperations())-1 {
		t.Fatalf("only %d refusals", refused)
	}
}

// A stranger learns nothing: neither that a key exists, nor what it is for.
func testStrangersAndKeys(t *testing.T, s *suite) {
	keys := s.keysOfEachPurpose()
	var texts []string
	for _, op := range keyOperations() {
		for purpose, name := range keys {
			e := wantRefusal(t, op.call(s, s.Stranger, name), kms.ErrNotAccessible, op.name+" by a stranger under a key for "+purpose.String())
			texts = append(texts, e.Error())
		}
	}
	for _, text := range texts {
		if text != texts[0] {
			t.Fatalf("a stranger can tell %q from %q", text, texts[0])
		}
	}
	_, err := s.Stranger.API.Sign(s.ctx, s.Stranger.Principal, &kms.SignRequest{Key: s.key("absent"), Message: []byte("m")})
	if e := wantRefusal(t, err, kms.ErrNotAccessible, "Sign by a stranger with no key"); e.Error() != texts[0] {
		t.Fatalf("a stranger can tell an absent key: %q", e)
	}
}
