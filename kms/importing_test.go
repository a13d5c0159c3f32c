package kms_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

func jobName(t testing.TB, id string) kms.ImportJobName {
	t.Helper()
	name, err := kms.NewImportJobName(keyName(t, "x").Namespace(), id)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// job makes an import job of one hour by the quickest method.
func (w *world) job(id string) *kms.ImportJob {
	w.t.Helper()
	job, err := w.service.CreateImportJob(w.t.Context(), admin, &kms.CreateImportJobRequest{Name: jobName(w.t, id), TTL: time.Hour})
	if err != nil {
		w.t.Fatalf("CreateImportJob: %v", err)
	}
	return job
}

func wrap(t testing.TB, job *kms.ImportJob, key []byte) []byte {
	t.Helper()
	wrapped, err := job.Wrap(key)
	if err != nil {
		t.Fatalf("Wrap: %v", err)
	}
	return wrapped
}

func randomKey(size int) []byte {
	key := make([]byte, size)
	_, _ = rand.Read(key)
	return key
}

func (w *world) importKey(r *kms.ImportKeyVersionRequest) (*kms.ImportKeyVersionResult, error) {
	return w.service.ImportKeyVersion(w.t.Context(), admin, r)
}

func (w *world) mustImport(r *kms.ImportKeyVersionRequest) *kms.ImportKeyVersionResult {
	w.t.Helper()
	result, err := w.importKey(r)
	if err != nil {
		w.t.Fatalf("ImportKeyVersion: %v", err)
	}
	return result
}

func pkcs8(t testing.TB, private, public any) (key, spki []byte) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if spki, err = x509.MarshalPKIXPublicKey(public); err != nil {
		t.Fatal(err)
	}
	return key, spki
}

// A key that was made elsewhere does here what it does there, is the key's first version,
// and is marked as imported, in its row and by the token.
func TestImportIntoNewKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	job := w.job("laptop")
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	decrypting, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	secret := randomKey(32)
	ecKey, ecPublic := pkcs8(t, ec, &ec.PublicKey)
	rsaKey, rsaPublic := pkcs8(t, decrypting, &decrypting.PublicKey)

	for _, test := range []struct {
		id     string
		new    kms.NewKey
		key    []byte
		public []byte
		check  func(t *testing.T, name kms.KeyName)
	}{
		{"derived", kms.NewKey{}, secret, nil, func(t *testing.T, name kms.KeyName) {
			if got, err := w.decrypt(name, w.mustEncrypt(name, "plaintext")); err != nil || got != "plaintext" {
				t.Fatalf("Decrypt: %q, %v", got, err)
			}
		}},
		{"mac", kms.NewKey{Algorithm: kms.AlgorithmHMACSHA256}, secret, nil, func(t *testing.T, name kms.KeyName) {
			r, err := w.service.GenerateMac(t.Context(), admin, &kms.GenerateMacRequest{Key: name, Message: []byte("message")})
			if err != nil {
				t.Fatal(err)
			}
			want := hmac.New(sha256.New, secret)
			want.Write([]byte("message"))
			if !hmac.Equal(r.Mac, want.Sum(nil)) {
				t.Fatal("another MAC")
			}
		}},
		{"sign", kms.NewKey{Algorithm: kms.AlgorithmECP256SHA256}, ecKey, ecPublic, func(t *testing.T, name kms.KeyName) {
			r, err := w.service.Sign(t.Context(), admin, &kms.SignRequest{Key: name, Message: []byte("message")})
			if err != nil {
				t.Fatal(err)
			}
			digest := sha256.Sum256([]byte("message"))
			if !ecdsa.VerifyASN1(&ec.PublicKey, digest[:], r.Signature) {
				t.Fatal("another key has signed")
			}
		}},
		{"sign-without-public-key", kms.NewKey{Algorithm: kms.AlgorithmECP256SHA256}, ecKey, nil, func(t *testing.T, name kms.KeyName) {
			r, err := w.service.GetPublicKey(t.Context(), admin, &kms.GetPublicKeyRequest{Key: name, Format: kms.PublicKeyDER})
			if err != nil || !bytes.Equal(r.Key, ecPublic) {
				t.Fatalf("another public key: %v", err)
			}
		}},
		{"decrypt", kms.NewKey{Algorithm: kms.AlgorithmRSA2048OAEPSHA1}, rsaKey, rsaPublic, func(t *testing.T, name kms.KeyName) {
			ciphertext, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &decrypting.PublicKey, []byte("plaintext"), nil)
			if err != nil {
				t.Fatal(err)
			}
			r, err := w.service.AsymmetricDecrypt(t.Context(), admin, &kms.AsymmetricDecryptRequest{Key: name, Ciphertext: ciphertext})
			if err != nil || string(r.Plaintext) != "plaintext" {
				t.Fatalf("AsymmetricDecrypt: %v", err)
			}
		}},
	} {
		t.Run(test.id, func(t *testing.T) {
			name := keyName(t, test.id)
			test.new.Labels = map[string]string{"from": "elsewhere"}
			result := w.mustImport(&kms.ImportKeyVersionRequest{
				Key: name, New: &test.new, Job: job.Name, WrappedKey: wrap(t, job, test.key), PublicKey: test.public,
			})
			if v := result.Version; v.Name != name.Version(1) || !v.Primary || !v.Imported || v.State != kms.StateEnabled ||
				result.Key.Primary != 1 || result.Key.Labels["from"] != "elsewhere" || len(result.Spread.Acknowledged) != 1 {
				t.Fatalf("ImportKeyVersion: %+v of %+v", result.Version, result.Key)
			}
			if create, imported := w.auditor.find(kms.ActionCreateKey), w.auditor.find(kms.ActionImportVersion); create.Resource != name.String() ||
				imported.Resource != name.Version(1).String() || imported.ImportJob != job.Name || imported.Spread == nil {
				t.Fatalf("the records: %+v, %+v", create, imported)
			}
			test.check(t, name)
			w.restart()
			test.check(t, name)
			v, err := w.service.GetKeyVersion(t.Context(), admin, name.Version(1))
			if err != nil || !v.Imported || v.Unavailable != "" {
				t.Fatalf("GetKeyVersion: %+v, %v", v, err)
			}
			for _, a := range []hsm.Attributes{v.Attributes.Attributes, v.Host.Attributes.Attributes} {
				if a.Local != hsm.ReportedFalse || a.NeverExtractable == hsm.ReportedTrue || a.AlwaysSensitive == hsm.ReportedTrue {
					t.Fatalf("the token does not mark it: %+v", a)
				}
			}
		})
	}
}

// Into an existing key a version comes beside the primary one, unless it is to be primary.
func TestImportIntoAnExistingKey(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t, nil)
	other := w.newReplica()
	name, job := w.create("orders", kms.ProfileDerived), w.job("laptop")
	old := w.mustEncrypt(name, "old")
	r := &kms.ImportKeyVersionRequest{
		Key: name, Job: job.Name, WrappedKey: wrap(t, job, randomKey(32)), RequestID: "1f0e9b6c-7c8e-4f53-8f3b-0a4c0b1c2d3e",
	}
	result := w.mustImport(r)
	if v := result.Version; v.Name != name.Version(2) || v.Primary || !v.Imported || result.Key.Primary != 1 || result.Key.VersionCount != 2 {
		t.Fatalf("ImportKeyVersion: %+v of %+v", v, result.Key)
	}
	if v, err := other.service.GetKeyVersion(t.Context(), admin, name.Version(2)); err != nil || v.UID != result.Version.UID {
		t.Fatalf("another replica does not know the version: %v", err)
	}
	again := w.mustImport(r)
	if again.Version.UID != result.Version.UID || again.Key.VersionCount != 2 {
		t.Fatalf("repeated it has made %+v", again.Version)
	}
	changed := *r
	changed.MakePrimary = true
	_, err := w.importKey(&changed)
	wantError(t, err, kms.ErrRequestIDReused, "the request id with other fields")
	_, err = w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name, RequestID: r.RequestID})
	wantError(t, err, kms.ErrRequestIDReused, "the request id with another call")

	changed.RequestID, changed.WrappedKey = "", wrap(t, job, randomKey(32))
	if result = w.mustImport(&changed); result.Version.Name != name.Version(3) || !result.Version.Primary || result.Key.Primary != 3 {
		t.Fatalf("ImportKeyVersion to be primary: %+v of %+v", result.Version, result.Key)
	}
	if got, err := w.decrypt(name, old); err != nil || got != "old" {
		t.Fatalf("what the earlier primary version protects: %q, %v", got, err)
	}

	// What an imported version protects elsewhere is not known: its end wants consent.
	_, err = w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: name.Version(2), Reason: "copied"})
	wantError(t, err, kms.ErrDataLoss, "the revocation of a version that nothing here has used")
	if _, err = w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{
		Name: name.Version(2), Reason: "copied", DataLossAccepted: true,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	if v, err := w.service.GetKeyVersion(t.Context(), admin, name.Version(4)); err != nil || v.Imported {
		t.Fatalf("a version of the token's making: %+v, %v", v, err)
	}
}

// How many ciphertexts an imported STRICT key has made elsewhere is not known, so it makes
// none here: it opens what there is.
func TestImportedStrictVersionsMakeNoCiphertext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	job, key, name := w.job("laptop"), randomKey(32), keyName(t, "cards")
	uid := w.mustImport(&kms.ImportKeyVersionRequest{
		Key: name, New: &kms.NewKey{Profile: kms.ProfileStrict}, Job: job.Name, WrappedKey: wrap(t, job, key),
	}).Version.UID
	_, err := w.encrypt(name, "plaintext")
	wantError(t, err, kms.ErrNoEnabledPrimary, "Encrypt")
	if text := err.Error(); !strings.Contains(text, "imported") || strings.Contains(text, "no enabled primary") {
		t.Errorf("the error does not say why, or says that the version, which is enabled, is not: %v", err)
	}

	// FORMAT.md: header, nonce length and nonce, ciphertext and tag; the AAD is the header,
	// an empty encryption context and an empty AAD.
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	header := append([]byte("KH\x02\x01"), uid[:]...)
	nonce := randomKey(12)
	blob := append(append(slices.Clone(header), 12), nonce...)
	blob = aead.Seal(blob, nonce, []byte("plaintext"), append(slices.Clone(header), make([]byte, 8)...))
	if got, err := w.decrypt(name, blob); err != nil || got != "plaintext" {
		t.Fatalf("Decrypt of what was made elsewhere: %q, %v", got, err)
	}
	_, err = w.importKey(&kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: wrap(t, job, key), MakePrimary: true})
	wantError(t, err, kms.ErrInvalidRequest, "a primary version that makes no ciphertext")
	if _, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.encrypt(name, "plaintext"); err != nil {
		t.Fatalf("Encrypt after a rotation: %v", err)
	}
}

// What cannot be imported leaves nothing behind, in the store or in the token.
func TestImportRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	name, job := w.create("orders", kms.ProfileDerived), w.job("laptop")
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, ecPublic := pkcs8(t, ec, &ec.PublicKey)
	another, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, anotherPublic := pkcs8(t, another, &another.PublicKey)
	good := wrap(t, job, randomKey(32))
	flip := func(at int) []byte {
		changed := bytes.Clone(good)
		changed[at] ^= 1
		return changed
	}
	elsewhere, err := kms.NewNamespaceName("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := kms.NewImportJobName(elsewhere, "laptop")
	if err != nil {
		t.Fatal(err)
	}
	objects := w.objects()
	signing := &kms.NewKey{Algorithm: kms.AlgorithmECP256SHA256}
	for what, test := range map[string]struct {
		r    kms.ImportKeyVersionRequest
		want error
	}{
		"no key":                   {kms.ImportKeyVersionRequest{Job: job.Name, WrappedKey: good}, kms.ErrInvalidRequest},
		"no job":                   {kms.ImportKeyVersionRequest{Key: name, WrappedKey: good}, kms.ErrInvalidRequest},
		"no wrapped key":           {kms.ImportKeyVersionRequest{Key: name, Job: job.Name}, kms.ErrInvalidRequest},
		"another namespace's job":  {kms.ImportKeyVersionRequest{Key: name, Job: foreign, WrappedKey: good}, kms.ErrInvalidRequest},
		"too long":                 {kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: make([]byte, 9<<10)}, kms.ErrLimitExceeded},
		"too long a public key":    {kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: good, PublicKey: make([]byte, 2000)}, kms.ErrLimitExceeded},
		"no UUID":                  {kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: good, RequestID: "1"}, kms.ErrInvalidRequest},
		"bad combination":          {kms.ImportKeyVersionRequest{Key: keyName(t, "new"), New: &kms.NewKey{Purpose: kms.PurposeMAC, Profile: kms.ProfileStrict}, Job: job.Name, WrappedKey: good}, kms.ErrInvalidRequest},
		"a new key to be primary":  {kms.ImportKeyVersionRequest{Key: keyName(t, "new"), New: &kms.NewKey{}, MakePrimary: true, Job: job.Name, WrappedKey: good}, kms.ErrInvalidRequest},
		"unknown job":              {kms.ImportKeyVersionRequest{Key: name, Job: jobName(t, "unknown"), WrappedKey: good}, kms.ErrImportJobNotFound},
		"unknown key":              {kms.ImportKeyVersionRequest{Key: keyName(t, "unknown"), Job: job.Name, WrappedKey: good}, kms.ErrKeyNotFound},
		"key that exists":          {kms.ImportKeyVersionRequest{Key: name, New: &kms.NewKey{}, Job: job.Name, WrappedKey: good}, kms.ErrKeyExists},
		"RSA part only":            {kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: good[:384]}, kms.ErrWrappedKey},
		"cut off":                  {kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: good[:len(good)-8]}, kms.ErrWrappedKey},
		"changed RSA part":         {kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: flip(100)}, kms.ErrWrappedKey},
		"changed key":              {kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: flip(len(good) - 1)}, kms.ErrWrappedKey},
		"AES-128":                  {kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: wrap(t, job, randomKey(16))}, kms.ErrWrappedKey},
		"a pair for a secret key":  {kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: wrap(t, job, ecKey)}, kms.ErrWrappedKey},
		"a secret key for a pair":  {kms.ImportKeyVersionRequest{Key: keyName(t, "new"), New: signing, Job: job.Name, WrappedKey: good}, kms.ErrWrappedKey},
		"public key of a secret":   {kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: good, PublicKey: ecPublic}, kms.ErrWrappedKey},
		"another's public key":     {kms.ImportKeyVersionRequest{Key: keyName(t, "new"), New: signing, Job: job.Name, WrappedKey: wrap(t, job, ecKey), PublicKey: anotherPublic}, kms.ErrWrappedKey},
		"P-256 for P-384":          {kms.ImportKeyVersionRequest{Key: keyName(t, "new"), New: &kms.NewKey{Algorithm: kms.AlgorithmECP384SHA384}, Job: job.Name, WrappedKey: wrap(t, job, ecKey)}, kms.ErrWrappedKey},
		"Ed25519 without a public": {kms.ImportKeyVersionRequest{Key: keyName(t, "new"), New: &kms.NewKey{Algorithm: kms.AlgorithmEd25519}, Job: job.Name, WrappedKey: wrap(t, job, ecKey)}, kms.ErrWrappedKey},
	} {
		_, err := w.importKey(&test.r)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %q", what, err, test.want)
		}
		if e := w.auditor.find(kms.ActionImportVersion); !errors.Is(e.Err, test.want) || e.ImportJob != test.r.Job {
			t.Errorf("%s: the record is %+v", what, e)
		}
	}
	if n := w.objects(); n != objects {
		t.Errorf("the token has %d objects, and had %d", n, objects)
	}
	if _, err := w.service.GetKey(t.Context(), admin, keyName(t, "new")); !errors.Is(err, kms.ErrKeyNotFound) {
		t.Errorf("a refused import has left a key: %v", err)
	}
	if k, err := w.service.GetKey(t.Context(), admin, name); err != nil || k.VersionCount != 1 {
		t.Errorf("a refused import has left a version: %+v, %v", k, err)
	}
	for what, err := range map[string]error{
		"CreateImportJob": second(w.service.CreateImportJob(t.Context(), stranger, &kms.CreateImportJobRequest{Name: jobName(t, "mine")})),
		"GetImportJob":    second(w.service.GetImportJob(t.Context(), stranger, job.Name)),
		"ListImportJobs":  second(w.service.ListImportJobs(t.Context(), stranger, name.Namespace(), kms.Page{})),
		"ImportKeyVersion": second(w.service.ImportKeyVersion(t.Context(), stranger, &kms.ImportKeyVersionRequest{
			Key: name, Job: job.Name, WrappedKey: good,
		})),
	} {
		if !errors.Is(err, kms.ErrNotAccessible) {
			t.Errorf("%s by a stranger: %v", what, err)
		}
	}
	if e := w.auditor.find(kms.ActionImportVersion); e.Principal != stranger || e.ImportJob != job.Name {
		t.Errorf("the record of an import by a stranger: %+v", e)
	}
}

func second[T any](_ T, err error) error { return err }

// What the token lacks is refused before anything is made, with what it has instead.
func TestImportCapabilities(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{NoImport: true}, nil)
	_, err := w.service.CreateImportJob(t.Context(), admin, &kms.CreateImportJobRequest{Name: jobName(t, "laptop")})
	wantError(t, err, kms.ErrUnsupported, "an import job of a token that imports nothing")

	w = newWorld(t, hsmtest.MemoryConfig{NoOAEPSHA256: true}, nil)
	job := w.job("laptop")
	if job.Method != kms.ImportRSA3072SHA1 {
		t.Fatalf("the method is %s", job.Method)
	}
	_, err = w.service.CreateImportJob(t.Context(), admin, &kms.CreateImportJobRequest{
		Name: jobName(t, "another"), Method: kms.ImportRSA3072SHA256,
	})
	wantError(t, err, kms.ErrUnsupported, "a method that the token lacks")
	if !strings.Contains(err.Error(), "RSA-OAEP with SHA-256") || !strings.Contains(err.Error(), "RSA_OAEP_3072_SHA1_AES_256") {
		t.Errorf("the error does not say what is missing and what there is: %v", err)
	}
}

// What is wrapped here has the form that CheckWrapped wants of what others wrap; what has not
// been wrapped, or is not complete, has not.
func TestCheckWrapped(t *testing.T) {
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	job := w.job("laptop")
	for algorithm, size := range map[kms.Algorithm]int{
		kms.AlgorithmAES256: 32, kms.AlgorithmHMACSHA256: 32, kms.AlgorithmHMACSHA512: 64,
		kms.AlgorithmECP256SHA256: 138, kms.AlgorithmEd25519: 48, kms.AlgorithmRSA2048PKCS1SHA256: 1218, kms.AlgorithmRSA4096PKCS1SHA512: 2375,
	} {
		wrapped := wrap(t, job, randomKey(size))
		if err := job.CheckWrapped(algorithm, wrapped); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		for what, other := range map[string][]byte{
			"nothing": nil, "a key that is not wrapped": randomKey(size), "another length": wrapped[1:],
			"the RSA ciphertext alone": wrapped[:job.Method.ModulusSize()],
			"a block too few":          wrapped[:job.Method.ModulusSize()+8],
			"more than there can be":   append(bytes.Clone(wrapped), make([]byte, kms.MaxWrappedKey)...),
		} {
			wantError(t, job.CheckWrapped(algorithm, other), kms.ErrInvalidRequest, algorithm.String()+": "+what)
		}
	}
	wantError(t, job.CheckWrapped(kms.AlgorithmHMACSHA512, wrap(t, job, randomKey(32))), kms.ErrInvalidRequest, "a key of another size")
	wantError(t, job.CheckWrapped(0, wrap(t, job, randomKey(32))), kms.ErrInvalidRequest, "no algorithm")
	unknown := *job
	unknown.Method = 0
	wantError(t, unknown.CheckWrapped(kms.AlgorithmAES256, wrap(t, job, randomKey(32))), kms.ErrInvalidRequest, "no method")
}
