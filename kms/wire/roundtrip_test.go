package wire

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// trip sends a value over the wire and back, and wants it unchanged.
func trip[D any, M proto.Message](sent D, encode func(D) M, decode func(M) (D, error)) func(t *testing.T, full bool) {
	return func(t *testing.T, full bool) {
		t.Helper()
		m := encode(sent)
		if full {
			checkFull(t, m.ProtoReflect())
		}
		encoded, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		arrived, ok := m.ProtoReflect().New().Interface().(M)
		if !ok {
			t.Fatal("not the same message")
		}
		if err := proto.Unmarshal(encoded, arrived); err != nil {
			t.Fatal(err)
		}
		got, err := decode(arrived)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sent, got, sameDomain()...); diff != "" {
			t.Errorf("not the same (- sent, + received):\n%s", diff)
		}
	}
}

func sameDomain() []cmp.Option {
	return []cmp.Option{
		cmp.Comparer(func(a, b kms.NamespaceName) bool { return a == b }),
		cmp.Comparer(func(a, b kms.KeyName) bool { return a == b }),
		cmp.Comparer(func(a, b kms.VersionName) bool { return a == b }),
		cmp.Comparer(func(a, b kms.ImportJobName) bool { return a == b }),
		cmp.Comparer(func(a, b error) bool {
			return Reason(a) == Reason(b) && (a == nil || a.Error() == b.Error())
		}),
		cmpopts.EquateEmpty(),
	}
}

// checkFull checks that an example leaves no field of its message out, so that a field
// which a conversion forgets is noticed. Of a oneof one is enough.
func checkFull(t *testing.T, m protoreflect.Message) {
	t.Helper()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		oneof := field.ContainingOneof()
		if !m.Has(field) && (oneof == nil || m.WhichOneof(oneof) == nil) {
			t.Errorf("%s is never set", field.FullName())
		}
	}
}

// none adapts the decoders that cannot fail.
func none[M, D any](decode func(M) D) func(M) (D, error) {
	return func(m M) (D, error) { return decode(m), nil }
}

type named2[A, B any] struct {
	A A
	B B
}

// two adapts the conversions of two values.
func two[A, B any, M proto.Message](
	a A, b B, encode func(A, B) M, decode func(M) (A, B, error),
) func(*testing.T, bool) {
	return trip(named2[A, B]{a, b},
		func(v named2[A, B]) M { return encode(v.A, v.B) },
		func(m M) (named2[A, B], error) {
			a, b, err := decode(m)
			return named2[A, B]{a, b}, err
		})
}

func batchOf[R, M any](encode func([]R, Report) M) func([]R) M {
	return func(results []R) M { return encode(results, nil) }
}

func TestRoundTrips(t *testing.T) {
	labels, period := map[string]string{"a": "b"}, time.Hour
	binding := aBinding()
	page := kms.Page{Size: 12, Token: "next"}
	id := "b9d4b3f8-5f0e-4b1c-8c43-0d0c6f2f3b11"
	secret, blob := kms.Secret("plaintext"), []byte("ciphertext")
	version, target := aKey().Version(1), aKey().Version(2)

	for name, run := range map[string]func(*testing.T, bool){
		"CreateNamespaceRequest": trip(aNamespace(), EncodeCreateNamespaceRequest, DecodeCreateNamespaceRequest),
		"GetNamespaceRequest":    trip(aNamespace(), EncodeGetNamespaceRequest, DecodeGetNamespaceRequest),
		"ListNamespacesRequest":  trip(page, EncodeListNamespacesRequest, none(DecodeListNamespacesRequest)),
		"ListNamespacesResponse": trip(
			&kms.NamespaceList{Namespaces: []*kms.Namespace{aStoredNamespace()}, NextToken: "next"},
			EncodeListNamespacesResponse, DecodeListNamespacesResponse),
		"Namespace": trip(aStoredNamespace(), EncodeNamespace, DecodeNamespace),
		"CreateKeyRequest": trip(&kms.CreateKeyRequest{
			Name: aKey(), Purpose: kms.PurposeEncryptDecrypt, Algorithm: kms.AlgorithmAES256,
			Profile: kms.ProfileStrict, Labels: labels, RotationPeriod: period, RequestID: id,
		}, EncodeCreateKeyRequest, DecodeCreateKeyRequest),
		"Key":           trip(aKeyInfo(), EncodeKey, DecodeKey),
		"GetKeyRequest": trip(aKey(), EncodeGetKeyRequest, DecodeGetKeyRequest),
		"ListKeysRequest": two(aNamespace(), page,
			EncodeListKeysRequest, DecodeListKeysRequest),
		"ListKeysResponse": trip(&kms.KeyList{Keys: []*kms.KeyInfo{aKeyInfo()}, NextToken: "next"},
			EncodeListKeysResponse, DecodeListKeysResponse),
		"UpdateKeyRequest": trip(&kms.UpdateKeyRequest{Name: aKey(), Labels: &labels, RotationPeriod: &period, Etag: "r8"},
			EncodeUpdateKeyRequest, DecodeUpdateKeyRequest),
		"RotateKeyRequest": trip(&kms.RotateKeyRequest{Name: aKey(), RequestID: id, RestrictPrevious: true, Reason: "why"},
			EncodeRotateKeyRequest, DecodeRotateKeyRequest),
		"RotateKeyResponse": trip(&kms.RotateKeyResult{
			Version: aVersionInfo(), Key: aKeyInfo(), Restricted: []*kms.VersionInfo{aVersionInfo()}, Spread: aSpread(),
		}, EncodeRotateKeyResponse, DecodeRotateKeyResponse),
		"SetPrimaryKeyVersionRequest": trip(&kms.SetPrimaryRequest{Name: version, Reason: "why"},
			EncodeSetPrimaryKeyVersionRequest, DecodeSetPrimaryKeyVersionRequest),
		"SetPrimaryKeyVersionResponse": trip(&kms.SetPrimaryResult{Version: aVersionInfo(), Key: aKeyInfo(), Spread: aSpread()},
			EncodeSetPrimaryKeyVersionResponse, DecodeSetPrimaryKeyVersionResponse),
		"GetKeyVersionRequest":   trip(version, EncodeGetKeyVersionRequest, DecodeGetKeyVersionRequest),
		"KeyVersion":             trip(aVersionInfo(), EncodeKeyVersion, DecodeKeyVersion),
		"ListKeyVersionsRequest": two(aKey(), page, EncodeListKeyVersionsRequest, DecodeListKeyVersionsRequest),
		"ListKeyVersionsResponse": trip(&kms.VersionList{Versions: []*kms.VersionInfo{aVersionInfo()}, NextToken: "next"},
			EncodeListKeyVersionsResponse, DecodeListKeyVersionsResponse),
		"EnableKeyVersionRequest":   two(version, "why", EncodeEnableKeyVersionRequest, DecodeEnableKeyVersionRequest),
		"EnableKeyVersionResponse":  trip(aStateChange(), EncodeEnableKeyVersionResponse, DecodeEnableKeyVersionResponse),
		"DisableKeyVersionRequest":  two(version, "why", EncodeDisableKeyVersionRequest, DecodeDisableKeyVersionRequest),
		"DisableKeyVersionResponse": trip(aStateChange(), EncodeDisableKeyVersionResponse, DecodeDisableKeyVersionResponse),
		"RevokeKeyVersionRequest": trip(&kms.RevokeRequest{Name: version, Reason: "why", DataLossAccepted: true},
			EncodeRevokeKeyVersionRequest, DecodeRevokeKeyVersionRequest),
		"RevokeKeyVersionResponse":   trip(aStateChange(), EncodeRevokeKeyVersionResponse, DecodeRevokeKeyVersionResponse),
		"RestrictKeyVersionRequest":  two(version, "why", EncodeRestrictKeyVersionRequest, DecodeRestrictKeyVersionRequest),
		"RestrictKeyVersionResponse": trip(aStateChange(), EncodeRestrictKeyVersionResponse, DecodeRestrictKeyVersionResponse),
		"RestoreKeyVersionRequest":   two(version, "why", EncodeRestoreKeyVersionRequest, DecodeRestoreKeyVersionRequest),
		"RestoreKeyVersionResponse":  trip(aStateChange(), EncodeRestoreKeyVersionResponse, DecodeRestoreKeyVersionResponse),
		"ScheduleKeyVersionDestructionRequest": trip(&kms.DestructionRequest{
			Name: version, Reason: "why", Window: 720 * time.Hour, DataLossAccepted: true,
		}, EncodeScheduleKeyVersionDestructionRequest, DecodeScheduleKeyVersionDestructionRequest),
		"ScheduleKeyVersionDestructionResponse": trip(aStateChange(),
			EncodeScheduleKeyVersionDestructionResponse, DecodeScheduleKeyVersionDestructionResponse),

		"ListReplicasResponse": trip([]*kms.ReplicaInfo{aReplica(), {}},
			EncodeListReplicasResponse, none(DecodeListReplicasResponse)),
		"Replica":             trip(aReplica(), EncodeReplica, none(DecodeReplica)),
		"VerifyStoreResponse": trip(aStoreReport(), EncodeVerifyStoreResponse, DecodeVerifyStoreResponse),
		"ResealStoreRequest":  trip("why", EncodeResealStoreRequest, none(DecodeResealStoreRequest)),
		"ResealStoreResponse": trip(aStoreReport(), EncodeResealStoreResponse, DecodeResealStoreResponse),
		"StoreReport":         trip(aStoreReport(), EncodeStoreReport, DecodeStoreReport),
		"BackupStoreResponse, chunk": trip(blob, EncodeBackupChunk, func(m *kmsv1.BackupStoreResponse) ([]byte, error) {
			chunk, report, err := DecodeBackupPart(m)
			if report != nil {
				return nil, errors.New("a chunk has a report")
			}
			return chunk, err
		}),
		"BackupStoreResponse, report": trip(aStoreReport(), EncodeBackupReport,
			func(m *kmsv1.BackupStoreResponse) (*kms.StoreReport, error) {
				_, report, err := DecodeBackupPart(m)
				return report, err
			}),
		"RestoreStoreRequest, options": trip(&kms.RestoreStoreRequest{Reason: "why", AcceptRollback: true},
			EncodeRestoreOptions, DecodeRestoreOptions),
		"RestoreStoreRequest, chunk": trip(blob, EncodeRestoreChunk, DecodeRestoreChunk),
		"RestoreStoreResponse":       trip(aStoreReport(), EncodeRestoreStoreResponse, DecodeRestoreStoreResponse),
		"Orphan":                     trip(anOrphan(), EncodeOrphan, DecodeOrphan),
		"ListOrphansResponse": trip([]*kms.OrphanInfo{anOrphan(), {}},
			EncodeListOrphansResponse, DecodeListOrphansResponse),
		"ScheduleOrphanDestructionRequest": trip(&kms.OrphanDestructionRequest{
			UIDs: []hsm.UID{{1}, {2}}, Window: time.Hour, Reason: "why",
		}, EncodeScheduleOrphanDestructionRequest, DecodeScheduleOrphanDestructionRequest),
		"ScheduleOrphanDestructionResponse": trip([]*kms.OrphanInfo{anOrphan()},
			EncodeScheduleOrphanDestructionResponse, DecodeScheduleOrphanDestructionResponse),

		"EncryptRequest": trip(&kms.EncryptRequest{Key: aKey(), Plaintext: secret, Binding: binding},
			EncodeEncryptRequest, DecodeEncryptRequest),
		"EncryptResponse": trip(&kms.EncryptResult{Ciphertext: blob, Version: version},
			EncodeEncryptResponse, DecodeEncryptResponse),
		"DecryptRequest": trip(&kms.DecryptRequest{Parent: aNamespace(), Key: aKey(), Ciphertext: blob, Binding: binding},
			EncodeDecryptRequest, DecodeDecryptRequest),
		"DecryptResponse": trip(&kms.DecryptResult{Plaintext: secret, Version: version},
			EncodeDecryptResponse, DecodeDecryptResponse),
		"ReEncryptRequest": trip(&kms.ReEncryptRequest{
			Parent: aNamespace(), SourceKey: aKey(), Ciphertext: blob, Source: binding, Key: anotherKey(),
			Destination: &kms.Binding{AAD: []byte("other")},
		}, EncodeReEncryptRequest, DecodeReEncryptRequest),
		"ReEncryptResponse": trip(&kms.ReEncryptResult{Ciphertext: blob, Source: version, Version: target},
			EncodeReEncryptResponse, DecodeReEncryptResponse),
		"GenerateRandomRequest":  trip(33, EncodeGenerateRandomRequest, none(DecodeGenerateRandomRequest)),
		"GenerateRandomResponse": trip(secret, EncodeGenerateRandomResponse, none(DecodeGenerateRandomResponse)),

		"BatchEncryptRequest": trip(&kms.BatchEncryptRequest{
			Parent: aNamespace(), Key: aKey(), Items: somePayloads(true), Binding: binding,
		}, EncodeBatchEncryptRequest, DecodeBatchEncryptRequest),
		"BatchEncryptResponse": trip([]kms.PayloadResult{
			{Ciphertext: blob, Version: version},
			{Ciphertext: blob, Version: anotherKey().Version(1)},
			{Err: &kms.Error{Sentinel: kms.ErrNotAccessible}},
		}, batchOf(EncodeBatchEncryptResponse), DecodeBatchEncryptResponse),
		"BatchDecryptRequest": trip(&kms.BatchDecryptRequest{
			Parent: aNamespace(), Key: aKey(), Items: somePayloads(false), Binding: binding,
		}, EncodeBatchDecryptRequest, DecodeBatchDecryptRequest),
		"BatchDecryptResponse": trip([]kms.PayloadResult{
			{Plaintext: secret, Version: version},
			{Version: version, Err: &kms.Error{Sentinel: kms.ErrDecryptionFailed}},
			{Err: &kms.Error{Sentinel: kms.ErrMalformedCiphertext}},
		}, batchOf(EncodeBatchDecryptResponse), DecodeBatchDecryptResponse),

		"GenerateDataKeysRequest": trip(&kms.GenerateDataKeysRequest{
			Key: aKey(), Count: 4096, Size: 64, WithoutPlaintext: true, Binding: binding,
		}, EncodeGenerateDataKeysRequest, DecodeGenerateDataKeysRequest),
		"GenerateDataKeysResponse": trip([]kms.DataKeyResult{
			{DataKey: secret, Wrapped: blob, Version: version},
			{Version: version, Err: &kms.Error{Sentinel: kms.ErrTokenUnavailable}},
		}, batchOf(EncodeGenerateDataKeysResponse), DecodeGenerateDataKeysResponse),
		"WrapDataKeysRequest": trip(&kms.WrapDataKeysRequest{
			Parent: aNamespace(), Key: aKey(), Items: someItems(true), Binding: binding,
		}, EncodeWrapDataKeysRequest, DecodeWrapDataKeysRequest),
		"WrapDataKeysResponse": trip([]kms.DataKeyResult{
			{Wrapped: blob, Version: version},
			{Wrapped: blob, Version: anotherKey().Version(1)},
			{Err: &kms.Error{Sentinel: kms.ErrNotAccessible}},
			{Version: version, Err: &kms.Error{Sentinel: kms.ErrVersionDisabled}},
			{Wrapped: blob, Version: version},
		}, batchOf(EncodeWrapDataKeysResponse), DecodeWrapDataKeysResponse),
		"UnwrapDataKeysRequest": trip(&kms.UnwrapDataKeysRequest{
			Parent: aNamespace(), Key: aKey(), Items: someItems(false), Binding: binding, RewrapToPrimary: true,
		}, EncodeUnwrapDataKeysRequest, DecodeUnwrapDataKeysRequest),
		"UnwrapDataKeysResponse": trip([]kms.DataKeyResult{
			{DataKey: secret, Version: version},
			{DataKey: secret, Version: version, Wrapped: blob, Target: target},
			{DataKey: secret, Version: version, RewrapErr: &kms.Error{Sentinel: kms.ErrNoEnabledPrimary}},
			{Version: version, Err: &kms.Error{Sentinel: kms.ErrDecryptionFailed}},
			{Err: &kms.Error{Sentinel: kms.ErrMalformedCiphertext}},
		}, batchOf(EncodeUnwrapDataKeysResponse), DecodeUnwrapDataKeysResponse),
		"RewrapDataKeysRequest": trip(&kms.RewrapDataKeysRequest{
			Parent: aNamespace(), Key: aKey(), Items: someItems(false), Binding: binding,
		}, EncodeRewrapDataKeysRequest, DecodeRewrapDataKeysRequest),
		"RewrapDataKeysResponse": trip([]kms.DataKeyResult{
			{Wrapped: blob, Version: version, Target: target},
			{Wrapped: blob, Version: target, Target: target},
			{Version: version, Err: &kms.Error{Sentinel: kms.ErrDecryptionFailed}},
			{Err: &kms.Error{Sentinel: kms.ErrMalformedCiphertext}},
		}, batchOf(EncodeRewrapDataKeysResponse), DecodeRewrapDataKeysResponse),
		"DiagnoseResponse": trip(&Diagnosis{
			ServerVersion: "v1", ServerTime: aTime(9), Principal: "unix:0",
			Findings: []kms.Finding{{Area: "token", Check: "mechanisms", Severity: kms.SeverityWarning, Detail: "d", Remedy: "r"}},
		}, EncodeDiagnoseResponse, none(DecodeDiagnoseResponse)),
		"WhoAmIResponse": trip(kms.Principal{Name: "x509:CN=ops", Method: kms.MethodTLS},
			EncodeWhoAmIResponse, none(DecodeWhoAmIResponse)),
	} {
		t.Run(name, func(t *testing.T) { run(t, true) })
	}
}

// Zero values are what an empty message means, on both sides.
func TestZeroValuesStayZero(t *testing.T) {
	for name, run := range map[string]func(*testing.T, bool){
		"Namespace":                trip(&kms.Namespace{}, EncodeNamespace, DecodeNamespace),
		"Key":                      trip(&kms.KeyInfo{}, EncodeKey, DecodeKey),
		"KeyVersion":               trip(&kms.VersionInfo{}, EncodeKeyVersion, DecodeKeyVersion),
		"ListKeysResponse":         trip(&kms.KeyList{}, EncodeListKeysResponse, DecodeListKeysResponse),
		"BatchEncryptResponse":     trip(nil, batchOf(EncodeBatchEncryptResponse), DecodeBatchEncryptResponse),
		"BatchDecryptResponse":     trip(nil, batchOf(EncodeBatchDecryptResponse), DecodeBatchDecryptResponse),
		"GenerateDataKeysResponse": trip(nil, batchOf(EncodeGenerateDataKeysResponse), DecodeGenerateDataKeysResponse),
		"WrapDataKeysResponse":     trip(nil, batchOf(EncodeWrapDataKeysResponse), DecodeWrapDataKeysResponse),
		"UnwrapDataKeysResponse":   trip(nil, batchOf(EncodeUnwrapDataKeysResponse), DecodeUnwrapDataKeysResponse),
		"RewrapDataKeysResponse":   trip(nil, batchOf(EncodeRewrapDataKeysResponse), DecodeRewrapDataKeysResponse),
		"StoreReport":              trip(&kms.StoreReport{}, EncodeStoreReport, DecodeStoreReport),
		"Replica":                  trip(&kms.ReplicaInfo{}, EncodeReplica, none(DecodeReplica)),
		"Orphan":                   trip(&kms.OrphanInfo{}, EncodeOrphan, DecodeOrphan),
		"RotateKeyResponse": trip(&kms.RotateKeyResult{Version: &kms.VersionInfo{}, Key: &kms.KeyInfo{}},
			EncodeRotateKeyResponse, DecodeRotateKeyResponse),
		"UpdateKeyRequest of labels": trip(&kms.UpdateKeyRequest{Name: aKey(), Labels: &map[string]string{}},
			EncodeUpdateKeyRequest, DecodeUpdateKeyRequest),
		"UpdateKeyRequest of the period": trip(&kms.UpdateKeyRequest{Name: aKey(), RotationPeriod: new(time.Duration)},
			EncodeUpdateKeyRequest, DecodeUpdateKeyRequest),
	} {
		t.Run(name, func(t *testing.T) { run(t, false) })
	}
}

func TestBytesAreShared(t *testing.T) {
	m := &kmsv1.UnwrapDataKeysRequest{
		Parent: "namespaces/shop",
		Items:  []*kmsv1.UnwrapDataKeysRequest_Item{{WrappedDataKey: []byte("blob")}},
	}
	r, err := DecodeUnwrapDataKeysRequest(m)
	if err != nil {
		t.Fatal(err)
	}
	results := []kms.DataKeyResult{{DataKey: kms.Secret("key"), Version: aKey().Version(1)}}
	response := EncodeUnwrapDataKeysResponse(results, nil)
	if &r.Items[0].Wrapped[0] != &m.Items[0].WrappedDataKey[0] || &response.Results[0].DataKey[0] != &results[0].DataKey[0] {
		t.Error("bytes were copied")
	}
}

func TestMalformedResponses(t *testing.T) {
	status := &kmsv1.Status{Code: 9, Reason: "KEY_VERSION_DISABLED"}
	for name, err := range map[string]error{
		"namespace": errorOf(DecodeNamespace(&kmsv1.Namespace{Name: "nonsense"})),
		"etag":      errorOf(DecodeNamespace(&kmsv1.Namespace{Etag: "r07"})),
		"primary": errorOf(DecodeKey(&kmsv1.Key{
			Name: aKey().String(), PrimaryVersion: anotherKey().Version(1).String(),
		})),
		"uid":     errorOf(DecodeKeyVersion(&kmsv1.KeyVersion{Uid: "0102"})),
		"orphan":  errorOf(DecodeOrphan(&kmsv1.Orphan{Uid: "0102"})),
		"report":  errorOf(DecodeStoreReport(&kmsv1.StoreReport{SealKeyUid: "0102"})),
		"version": errorOf(DecodeEncryptResponse(&kmsv1.EncryptResponse{KeyVersion: "nonsense"})),
		"list": errorOf(DecodeListKeysResponse(&kmsv1.ListKeysResponse{
			Keys: []*kmsv1.Key{{Name: "nonsense"}},
		})),
		"index beyond": errorOf(DecodeWrapDataKeysResponse(&kmsv1.WrapDataKeysResponse{
			Results: []*kmsv1.WrapDataKeysResponse_Result{{KeyVersionIndex: 1}}, KeyVersions: []string{aKey().Version(1).String()},
		})),
		"no version of a success": errorOf(DecodeUnwrapDataKeysResponse(&kmsv1.UnwrapDataKeysResponse{
			Results: []*kmsv1.UnwrapDataKeysResponse_Result{{KeyVersionIndex: -1}},
		})),
	} {
		if !errors.Is(err, ErrMalformedResponse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	results, err := DecodeWrapDataKeysResponse(&kmsv1.WrapDataKeysResponse{
		Results: []*kmsv1.WrapDataKeysResponse_Result{{KeyVersionIndex: 5, Status: status}},
	})
	if err != nil || !results[0].Version.IsZero() || !errors.Is(results[0].Err, kms.ErrVersionDisabled) {
		t.Errorf("a failure without a version: %v, %v", results, err)
	}
}

func errorOf[T any](_ T, err error) error { return err }

func TestEnumTablesAreComplete(t *testing.T) {
	checkEnum(t, purposes)
	checkEnum(t, algorithms)
	checkEnum(t, profiles)
	checkEnum(t, signatureFormats)
	checkEnum(t, publicKeyFormats)
	checkEnum(t, hashes)
	checkEnum(t, states)
	checkEnum(t, tokenSwitches)
	checkEnum(t, severities)
}

func checkEnum[W interface {
	~int32
	protoreflect.Enum
}, D comparable](t *testing.T, table enumTable[W, D]) {
	t.Helper()
	var unspecified W
	values := unspecified.Descriptor().Values()
	if len(table) != values.Len()-1 {
		t.Errorf("%s has %d values and %d rows", unspecified.Descriptor().FullName(), values.Len(), len(table))
	}
	seen := make(map[D]bool)
	for i := range values.Len() {
		wire := reflect.ValueOf(values.Get(i).Number()).Convert(reflect.TypeFor[W]()).Interface().(W) //nolint:errcheck // converted to W
		domain, known := table.decode(wire)
		if !known || seen[domain] || table.encode(domain) != wire {
			t.Errorf("%s does not survive", values.Get(i).FullName())
		}
		seen[domain] = true
		if table.encodeRequested(domain) != wire {
			t.Errorf("%s is not asked for as it is", values.Get(i).FullName())
		}
	}
}
