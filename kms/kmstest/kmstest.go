// Package kmstest is the contract of [kms.API] as a test suite. It runs on kms.Service
// directly and over the wire, on an in-memory token and on a PKCS#11 token: whatever
// passes it keeps the same promises.
//
// The suite uses only the API. What needs a token or a store that fails is tested beside
// kms.Service.
package kmstest

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/kms"
)

// Caller is an API and the principal that uses it. Over the wire the principal is what
// the connection says.
type Caller struct {
	API       kms.API
	Principal kms.Principal
}

// Fixture is a service to test: new, with nothing in it but the default namespace.
type Fixture struct {
	Admin    Caller // may do everything
	Stranger Caller // is authenticated and may do nothing
}

// Run runs the suite. newFixture is called once per test and cleans up with t.Cleanup.
func Run(t *testing.T, newFixture func(t testing.TB) Fixture) {
	tests := []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Namespaces", testNamespaces},
		{"KeysAreCreated", testCreateKey},
		{"CreateKeyRefusesBadFields", testCreateKeyBadFields},
		{"CreateKeyIsRetried", testCreateKeyRetried},
		{"KeysAreListed", testListKeys},
		{"KeysAreUpdated", testUpdateKey},
		{"Rotation", testRotation},
		{"RotationIsRetried", testRotationRetried},
		{"VersionsAreListed", testListVersions},
		{"Payloads", testPayloads},
		{"PayloadLimits", testPayloadLimits},
		{"Bindings", testBindings},
		{"BadCiphertexts", testBadCiphertexts},
		{"Tenancy", testTenancy},
		{"ReEncrypt", testReEncrypt},
		{"PayloadBatches", testPayloadBatches},
		{"PayloadBatchLimits", testPayloadBatchLimits},
		{"DataKeys", testDataKeys},
		{"DataKeySizes", testDataKeySizes},
		{"WrapDataKeys", testWrapDataKeys},
		{"BatchLimits", testBatchLimits},
		{"BatchOfManyKeys", testBatchOfManyKeys},
		{"BadItemsFailAlone", testBadItems},
		{"Rewrap", testRewrap},
		{"UnwrapRewrapsToPrimary", testUnwrapRewraps},
		{"Disable", testDisable},
		{"Revoke", testRevoke},
		{"RevokedPrimary", testRevokedPrimary},
		{"Transitions", testTransitions},
		{"Restrict", testRestrict},
		{"RotationRestrictsPrevious", testRotationRestricts},
		{"SetPrimary", testSetPrimary},
		{"Destruction", testDestruction},
		{"DestructionOfARevokedVersion", testDestructionOfRevoked},
		{"ChangesAreKnownEverywhere", testSpread},
		{"Usage", testUsage},
		{"Strangers", testStrangers},
		{"Algorithms", testAlgorithms},
		{"UnsupportedAlgorithms", testUnsupportedAlgorithms},
		{"Provenance", testProvenance},
		{"PurposesAndOperations", testPurposes},
		{"StrangersAndKeys", testStrangersAndKeys},
		{"Signing", testSigning},
		{"SigningRefusals", testSigningRefusals},
		{"SigningNames", testSigningNames},
		{"PublicKeys", testPublicKeys},
		{"SigningBatches", testBatchSign},
		{"SigningBatchLimits", testBatchSignLimits},
		{"Macs", testMacs},
		{"MacBatches", testMacBatches},
		{"AsymmetricDecrypt", testAsymmetricDecrypt},
		{"StatesOfKeys", testStatesOfKeys},
		{"SignaturesOfOlderVersions", testSignaturesOfOlderVersions},
		{"UsageOfKeys", testUsageOfKeys},
		{"Random", testRandom},
		{"Diagnose", testDiagnose},
		{"Replicas", testReplicas},
		{"StoreIsVerified", testVerifyStore},
		{"StoreIsSealedAnew", testResealStore},
		{"Backup", testBackup},
		{"Orphans", testOrphans},
		{"Imports", testImports},
		{"Cancellation", testCancellation},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			test.run(t, &suite{T: t, ctx: ctx, Fixture: newFixture(t)})
		})
	}
}

// suite is one test under way, with shorthands for the administrator's calls. Those
// that begin with must end the test on an error.
type suite struct {
	*testing.T
	Fixture
	ctx context.Context
}

var profiles = []kms.Profile{kms.ProfileDerived, kms.ProfileStrict}

func (s *suite) namespace(id string) kms.NamespaceName {
	s.Helper()
	name, err := kms.NewNamespaceName(id)
	if err != nil {
		s.Fatal(err)
	}
	return name
}

func (s *suite) key(id string) kms.KeyName { return s.keyIn(kms.DefaultNamespace, id) }

func (s *suite) keyIn(namespace, id string) kms.KeyName {
	s.Helper()
	name, err := kms.NewKeyName(s.namespace(namespace), id)
	if err != nil {
		s.Fatal(err)
	}
	return name
}

func (s *suite) mustCreate(id string, p kms.Profile) kms.KeyName {
	s.Helper()
	return s.mustCreateNamed(s.key(id), p)
}

func (s *suite) mustCreateNamed(name kms.KeyName, p kms.Profile) kms.KeyName {
	s.Helper()
	_, err := s.Admin.API.CreateKey(s.ctx, s.Admin.Principal, &kms.CreateKeyRequest{Name: name, Profile: p})
	if err != nil {
		s.Fatalf("CreateKey(%s): %v", name, err)
	}
	return name
}

func (s *suite) mustRotate(name kms.KeyName) kms.VersionName {
	s.Helper()
	r, err := s.rotate(&kms.RotateKeyRequest{Name: name, RequestID: uuid.NewString()})
	if err != nil {
		s.Fatalf("RotateKey(%s): %v", name, err)
	}
	return r.Version.Name
}

func (s *suite) rotate(r *kms.RotateKeyRequest) (*kms.RotateKeyResult, error) {
	return s.Admin.API.RotateKey(s.ctx, s.Admin.Principal, r)
}

func (s *suite) encrypt(key kms.KeyName, plaintext string, b kms.Binding) (*kms.EncryptResult, error) {
	return s.Admin.API.Encrypt(s.ctx, s.Admin.Principal,
		&kms.EncryptRequest{Key: key, Plaintext: kms.Secret(plaintext), Binding: b})
}

func (s *suite) mustEncrypt(key kms.KeyName, plaintext string, b kms.Binding) []byte {
	s.Helper()
	r, err := s.encrypt(key, plaintext, b)
	if err != nil {
		s.Fatalf("Encrypt: %v", err)
	}
	return r.Ciphertext
}

func (s *suite) decrypt(ciphertext []byte, b kms.Binding) (*kms.DecryptResult, error) {
	return s.Admin.API.Decrypt(s.ctx, s.Admin.Principal,
		&kms.DecryptRequest{Parent: s.namespace(kms.DefaultNamespace), Ciphertext: ciphertext, Binding: b})
}

func (s *suite) mustDecrypt(ciphertext []byte, b kms.Binding) string {
	s.Helper()
	r, err := s.decrypt(ciphertext, b)
	if err != nil {
		s.Fatalf("Decrypt: %v", err)
	}
	return string(r.Plaintext)
}

func (s *suite) mustGenerate(key kms.KeyName, count int) []kms.DataKeyResult {
	s.Helper()
	results, err := s.Admin.API.GenerateDataKeys(s.ctx, s.Admin.Principal,
		&kms.GenerateDataKeysRequest{Key: key, Count: count})
	if err != nil {
		s.Fatalf("GenerateDataKeys: %v", err)
	}
	if len(results) != count {
		s.Fatalf("GenerateDataKeys(count %d) returned %d results", count, len(results))
	}
	for i, r := range results {
		if r.Err != nil {
			s.Fatalf("data key %d: %v", i, r.Err)
		}
	}
	return results
}

func (s *suite) unwrap(items ...kms.DataKeyItem) ([]kms.DataKeyResult, error) {
	return s.Admin.API.UnwrapDataKeys(s.ctx, s.Admin.Principal,
		&kms.UnwrapDataKeysRequest{Parent: s.namespace(kms.DefaultNamespace), Items: items})
}

func (s *suite) mustUnwrap(items ...kms.DataKeyItem) []kms.DataKeyResult {
	s.Helper()
	results, err := s.unwrap(items...)
	if err != nil {
		s.Fatalf("UnwrapDataKeys: %v", err)
	}
	if len(results) != len(items) {
		s.Fatalf("UnwrapDataKeys of %d items returned %d results", len(items), len(results))
	}
	return results
}

func (s *suite) disable(v kms.VersionName, reason string) (*kms.StateChange, error) {
	return s.Admin.API.DisableKeyVersion(s.ctx, s.Admin.Principal, v, reason)
}

func (s *suite) restrict(v kms.VersionName, reason string) (*kms.StateChange, error) {
	return s.Admin.API.RestrictKeyVersion(s.ctx, s.Admin.Principal, v, reason)
}

func (s *suite) schedule(r *kms.DestructionRequest) (*kms.StateChange, error) {
	return s.Admin.API.ScheduleKeyVersionDestruction(s.ctx, s.Admin.Principal, r)
}

func (s *suite) restore(v kms.VersionName) (*kms.StateChange, error) {
	return s.Admin.API.RestoreKeyVersion(s.ctx, s.Admin.Principal, v, "needed after all")
}

func (s *suite) mustGetVersion(v kms.VersionName) *kms.VersionInfo {
	s.Helper()
	info, err := s.Admin.API.GetKeyVersion(s.ctx, s.Admin.Principal, v)
	if err != nil {
		s.Fatalf("GetKeyVersion(%s): %v", v, err)
	}
	return info
}

func (s *suite) enable(v kms.VersionName) (*kms.StateChange, error) {
	return s.Admin.API.EnableKeyVersion(s.ctx, s.Admin.Principal, v, "wanted again")
}

func (s *suite) revoke(v kms.VersionName, reason string, lossAccepted bool) (*kms.StateChange, error) {
	return s.Admin.API.RevokeKeyVersion(s.ctx, s.Admin.Principal,
		&kms.RevokeRequest{Name: v, Reason: reason, DataLossAccepted: lossAccepted})
}
