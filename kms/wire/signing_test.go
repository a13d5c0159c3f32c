package wire

import (
	"crypto"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func TestSigningRoundTrips(t *testing.T) {
	version := aKey().Version(7)
	digest, message, signature, tag := []byte("digest"), []byte("message"), []byte("signature"), []byte("tag")
	denied := &kms.Error{Sentinel: kms.ErrNotAccessible}
	disabled := &kms.Error{Sentinel: kms.ErrVersionDisabled}
	const algorithm = kms.AlgorithmRSA3072PSSSHA384

	for name, run := range map[string]func(*testing.T, bool){
		// Key and version, digest and message: what excludes each other is the service's to refuse.
		"SignRequest": trip(&kms.SignRequest{
			Key: aKey(), Version: version, Digest: digest, DigestHash: crypto.SHA384, Message: message, Format: kms.SignatureRaw,
		}, EncodeSignRequest, DecodeSignRequest),
		"SignResponse": trip(&kms.SignResult{Signature: signature, Version: version, Algorithm: algorithm},
			EncodeSignResponse, DecodeSignResponse),
		"BatchSignRequest": trip(&kms.BatchSignRequest{
			Parent: aNamespace(), Key: aKey(), Version: version, Format: kms.SignatureDER, Items: []kms.SignItem{
				{}, {Key: aKey(), Digest: digest}, {Key: aKey(), Digest: digest, DigestHash: crypto.SHA512}, {Version: version, Message: message},
				{Version: version}, {Key: anotherKey()}, {Version: anotherKey().Version(1)},
			},
		}, EncodeBatchSignRequest, DecodeBatchSignRequest),
		"BatchSignResponse": trip([]kms.SignResult{
			{Signature: signature, Version: version, Algorithm: algorithm}, {Version: version, Err: disabled}, {Err: denied},
		}, batchOf(EncodeBatchSignResponse), DecodeBatchSignResponse),
		"VerifyRequest": trip(&kms.VerifyRequest{
			Key: aKey(), Version: version, Digest: digest, DigestHash: crypto.SHA256, Message: message, Signature: signature,
			Format: kms.SignatureRaw,
		}, EncodeVerifyRequest, DecodeVerifyRequest),
		"VerifyResponse": trip(&kms.VerifyResult{Valid: true, Version: version, State: kms.StateRevoked, Algorithm: algorithm},
			EncodeVerifyResponse, DecodeVerifyResponse),
		"GetPublicKeyRequest": trip(&kms.GetPublicKeyRequest{Key: aKey(), Version: version, Format: kms.PublicKeyJWK},
			EncodeGetPublicKeyRequest, DecodeGetPublicKeyRequest),
		"GetPublicKeyResponse": trip(&kms.PublicKey{
			Key: []byte("123456789"), Format: kms.PublicKeyDER, CRC32C: 0xe3069283, // RFC 3720's check value of CRC32C
			Version: version, State: kms.StateDisabled, Algorithm: algorithm,
		}, EncodeGetPublicKeyResponse, DecodeGetPublicKeyResponse),
		"AsymmetricDecryptRequest": trip(&kms.AsymmetricDecryptRequest{Key: aKey(), Version: version, Ciphertext: []byte("c")},
			EncodeAsymmetricDecryptRequest, DecodeAsymmetricDecryptRequest),
		"AsymmetricDecryptResponse": trip(&kms.AsymmetricDecryptResult{Plaintext: kms.Secret("p"), Version: version, Algorithm: algorithm},
			EncodeAsymmetricDecryptResponse, DecodeAsymmetricDecryptResponse),
		"GenerateMacRequest": trip(&kms.GenerateMacRequest{Key: aKey(), Version: version, Message: message},
			EncodeGenerateMacRequest, DecodeGenerateMacRequest),
		"GenerateMacResponse": trip(&kms.MacResult{Mac: tag, Version: version, Algorithm: kms.AlgorithmHMACSHA512},
			EncodeGenerateMacResponse, DecodeGenerateMacResponse),
		"VerifyMacRequest": trip(&kms.VerifyMacRequest{Key: aKey(), Version: version, Message: message, Mac: tag},
			EncodeVerifyMacRequest, DecodeVerifyMacRequest),
		"VerifyMacResponse": trip(&kms.VerifyMacResult{Valid: true, Version: version, Algorithm: kms.AlgorithmHMACSHA256},
			EncodeVerifyMacResponse, DecodeVerifyMacResponse),
		"BatchGenerateMacRequest": trip(&kms.BatchGenerateMacRequest{
			Parent: aNamespace(), Key: aKey(), Version: version, Items: []kms.MacItem{{}, {Key: aKey(), Message: message}, {Version: version}},
		}, EncodeBatchGenerateMacRequest, DecodeBatchGenerateMacRequest),
		"BatchGenerateMacResponse": trip([]kms.MacResult{
			{Mac: tag, Version: version, Algorithm: kms.AlgorithmHMACSHA384}, {Version: version, Err: disabled}, {Err: denied},
		}, batchOf(EncodeBatchGenerateMacResponse), DecodeBatchGenerateMacResponse),
		"BatchVerifyMacRequest": trip(&kms.BatchVerifyMacRequest{
			Parent: aNamespace(), Key: aKey(), Version: version,
			Items: []kms.MacItem{{Mac: tag}, {Key: aKey(), Message: message, Mac: tag}, {Version: version}},
		}, EncodeBatchVerifyMacRequest, DecodeBatchVerifyMacRequest),
		"BatchVerifyMacResponse": trip([]kms.VerifyMacResult{
			{Valid: true, Version: version, Algorithm: kms.AlgorithmHMACSHA384}, {Version: version, Algorithm: kms.AlgorithmHMACSHA384},
			{Version: version, Err: disabled}, {Err: denied},
		}, batchOf(EncodeBatchVerifyMacResponse), DecodeBatchVerifyMacResponse),
	} {
		t.Run(name, func(t *testing.T) { run(t, true) })
	}
}

// The names of the wire contract are those of the domain.
func TestAlgorithmsAndPurposesHaveOneName(t *testing.T) {
	for _, a := range kms.Algorithms() {
		if m := algorithms.encode(a); m.String() != "ALGORITHM_"+a.String() || int(m) != int(a) {
			t.Errorf("%s, %d, is %s, %d on the wire", a, a, m, m)
		}
	}
	for _, p := range kms.Purposes() {
		if m := purposes.encode(p); m.String() != "PURPOSE_"+p.String() {
			t.Errorf("%s is %s on the wire", p, m)
		}
	}
}

// What a token says, what it denies, and what it does not say are three things, and so are no
// list of mechanisms and an empty one.
func TestAttributesRoundTrip(t *testing.T) {
	for _, r := range []hsm.Report{hsm.NotReported, hsm.ReportedTrue, hsm.ReportedFalse} {
		for _, mechanisms := range [][]string{nil, {}, {"CKM_ECDSA", "CKM_EDDSA"}} {
			v := &kms.VersionInfo{
				Version: kms.Version{Attributes: someAttributes(r, mechanisms)},
				Host:    &kms.HostReport{Attributes: someAttributes(r, mechanisms)},
			}
			m := EncodeKeyVersion(v)
			checkFull(t, EncodeKeyVersion(aVersionInfo()).GetHostReport().ProtoReflect())
			if r != hsm.NotReported && len(mechanisms) > 0 {
				checkFull(t, m.GetAttributes().ProtoReflect())
			}
			got, err := DecodeKeyVersion(m)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.Attributes, got.Attributes); diff != "" { // nil and empty differ here
				t.Error(diff)
			}
			if diff := cmp.Diff(v.Host.Attributes, got.Host.Attributes); diff != "" {
				t.Error(diff)
			}
		}
	}
	if m := EncodeKeyVersion(&kms.VersionInfo{}); m.GetAttributes() != nil || m.GetHostReport() != nil {
		t.Errorf("of a version that nothing is known of: %v", m)
	}
}

// A hash that the wire has no name for is not left out: the digest of another hash would be signed.
func TestUnknownHashesAreRefused(t *testing.T) {
	for _, h := range []crypto.Hash{crypto.MD5, crypto.SHA1, crypto.SHA3_256, 99} {
		_, err := DecodeSignRequest(EncodeSignRequest(&kms.SignRequest{Key: aKey(), Digest: make([]byte, 32), DigestHash: h}))
		if diff := cmp.Diff([]string{"digest_hash"}, fieldsOf(t, err)); diff != "" {
			t.Errorf("%d: %s", h, diff)
		}
		batch, err := DecodeBatchSignRequest(EncodeBatchSignRequest(&kms.BatchSignRequest{
			Parent: aNamespace(), Key: aKey(), Items: []kms.SignItem{{Digest: make([]byte, 32)}, {Digest: make([]byte, 32), DigestHash: h}},
		}))
		if err != nil || batch.Items[0].Invalid != nil {
			t.Fatalf("%d fails its neighbours: %v", h, err)
		}
		if diff := cmp.Diff([]string{"items[1].digest_hash"}, fieldsOf(t, batch.Items[1].Invalid)); diff != "" {
			t.Errorf("%d: %s", h, diff)
		}
	}
}

// Nor is any other choice: the default would be served instead.
func TestUnknownChoicesAreRefused(t *testing.T) {
	for name, err := range map[string]error{
		"signature_format":       errorOf(DecodeSignRequest(EncodeSignRequest(&kms.SignRequest{Key: aKey(), Format: 9}))),
		"format":                 errorOf(DecodeGetPublicKeyRequest(EncodeGetPublicKeyRequest(&kms.GetPublicKeyRequest{Key: aKey(), Format: 9}))),
		"key.purpose":            errorOf(DecodeCreateKeyRequest(EncodeCreateKeyRequest(&kms.CreateKeyRequest{Name: aKey(), Purpose: 99}))),
		"key.algorithm":          errorOf(DecodeCreateKeyRequest(EncodeCreateKeyRequest(&kms.CreateKeyRequest{Name: aKey(), Algorithm: 99}))),
		"key.protection_profile": errorOf(DecodeCreateKeyRequest(EncodeCreateKeyRequest(&kms.CreateKeyRequest{Name: aKey(), Profile: 99}))),
	} {
		if diff := cmp.Diff([]string{name}, fieldsOf(t, err)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestViolationsOfSigning(t *testing.T) {
	bad := "keys/orders"
	for name, test := range map[string]struct {
		err  error
		want []string
	}{
		"Sign":                      {errorOf(DecodeSignRequest(&kmsv1.SignRequest{Key: bad, KeyVersion: bad, DigestHash: 9, SignatureFormat: 9})), []string{"digest_hash", "key", "key_version", "signature_format"}},
		"Sign with a key's name":    {errorOf(DecodeSignRequest(&kmsv1.SignRequest{KeyVersion: aKey().String()})), []string{"key_version"}},
		"BatchSign, empty":          {errorOf(DecodeBatchSignRequest(&kmsv1.BatchSignRequest{})), []string{"items", "parent"}},
		"BatchSign":                 {errorOf(DecodeBatchSignRequest(&kmsv1.BatchSignRequest{Key: bad, KeyVersion: bad, SignatureFormat: -1})), []string{"items", "key", "key_version", "parent", "signature_format"}},
		"Verify":                    {errorOf(DecodeVerifyRequest(&kmsv1.VerifyRequest{Key: bad, KeyVersion: bad, DigestHash: -1, SignatureFormat: 9})), []string{"digest_hash", "key", "key_version", "signature_format"}},
		"GetPublicKey":              {errorOf(DecodeGetPublicKeyRequest(&kmsv1.GetPublicKeyRequest{Key: bad, KeyVersion: bad, Format: 9})), []string{"format", "key", "key_version"}},
		"AsymmetricDecrypt":         {errorOf(DecodeAsymmetricDecryptRequest(&kmsv1.AsymmetricDecryptRequest{Key: bad, KeyVersion: bad})), []string{"key", "key_version"}},
		"GenerateMac":               {errorOf(DecodeGenerateMacRequest(&kmsv1.GenerateMacRequest{Key: bad, KeyVersion: bad})), []string{"key", "key_version"}},
		"VerifyMac":                 {errorOf(DecodeVerifyMacRequest(&kmsv1.VerifyMacRequest{Key: bad, KeyVersion: bad})), []string{"key", "key_version"}},
		"BatchGenerateMac, no item": {errorOf(DecodeBatchGenerateMacRequest(&kmsv1.BatchGenerateMacRequest{Parent: "namespaces/shop"})), []string{"items"}},
		"BatchVerifyMac":            {errorOf(DecodeBatchVerifyMacRequest(&kmsv1.BatchVerifyMacRequest{Key: bad, KeyVersion: bad})), []string{"items", "key", "key_version", "parent"}},
	} {
		if diff := cmp.Diff(test.want, fieldsOf(t, test.err)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestBadNamesOfItemsFailAlone(t *testing.T) {
	key, version := aKey().String(), aKey().Version(3).String()
	r, err := DecodeBatchSignRequest(&kmsv1.BatchSignRequest{Parent: aNamespace().String(), Items: []*kmsv1.BatchSignRequest_Item{
		{Key: key}, {Key: "nonsense"}, {KeyVersion: version}, {KeyVersion: key}, {Key: key, KeyVersion: version}, nil, {Key: key},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		key     kms.KeyName
		version kms.VersionName
		field   string
	}{
		{key: aKey()}, {field: "items[1].key"}, {version: aKey().Version(3)}, {field: "items[3].key_version"},
		{key: aKey(), version: aKey().Version(3)}, {}, {key: aKey()},
	} {
		item := r.Items[i]
		if want.field != "" {
			if diff := cmp.Diff([]string{want.field}, fieldsOf(t, item.Invalid)); diff != "" {
				t.Errorf("item %d: %s", i, diff)
			}
		} else if item.Invalid != nil || item.Key != want.key || item.Version != want.version {
			t.Errorf("item %d: %+v", i, item)
		}
	}
}

func TestMalformedSigningResponses(t *testing.T) {
	for name, err := range map[string]error{
		"public key with another sum": errorOf(DecodeGetPublicKeyResponse(&kmsv1.GetPublicKeyResponse{PublicKey: []byte("123456789"), Crc32C: 1})),
		"version":                     errorOf(DecodeSignResponse(&kmsv1.SignResponse{KeyVersion: "nonsense"})),
		"no version of a signature": errorOf(DecodeBatchSignResponse(&kmsv1.BatchSignResponse{
			Results: []*kmsv1.BatchSignResponse_Result{{KeyVersionIndex: -1}},
		})),
		"no version of a tag": errorOf(DecodeBatchGenerateMacResponse(&kmsv1.BatchGenerateMacResponse{
			Results: []*kmsv1.BatchGenerateMacResponse_Result{{KeyVersionIndex: 1}},
		})),
	} {
		if !errors.Is(err, ErrMalformedResponse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	results, err := DecodeBatchVerifyMacResponse(&kmsv1.BatchVerifyMacResponse{Results: []*kmsv1.BatchVerifyMacResponse_Result{{
		Valid: true, KeyVersionIndex: -1, Status: &kmsv1.Status{Code: 9, Reason: "KEY_VERSION_DISABLED"},
	}}})
	if err != nil || results[0].Valid || !errors.Is(results[0].Err, kms.ErrVersionDisabled) {
		t.Errorf("a tag that was not examined: %+v, %v", results, err)
	}
}

// A batch costs a handful of allocations, however many items it has.
func TestNothingIsAllocatedPerSignature(t *testing.T) {
	request := &kms.BatchSignRequest{Parent: aNamespace(), Items: make([]kms.SignItem, kms.MaxItems)}
	results := make([]kms.SignResult, kms.MaxItems)
	for i := range request.Items {
		request.Items[i] = kms.SignItem{Key: aKey(), Digest: make([]byte, 32), DigestHash: crypto.SHA256}
		results[i] = kms.SignResult{Signature: make([]byte, 64), Version: aKey().Version(1), Algorithm: kms.AlgorithmECP256SHA256}
	}
	for name, run := range map[string]func() error{
		"request": func() error {
			_, err := DecodeBatchSignRequest(EncodeBatchSignRequest(request))
			return err
		},
		"response": func() error {
			_, err := DecodeBatchSignResponse(EncodeBatchSignResponse(results, nil))
			return err
		},
	} {
		allocations := testing.AllocsPerRun(5, func() {
			if err := run(); err != nil {
				t.Error(err)
			}
		})
		if allocations > 50 {
			t.Errorf("%s: %v allocations for %d items", name, allocations, kms.MaxItems)
		}
	}
}
