package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// requests makes an empty message of each request of the contract.
func requests(t testing.TB) []proto.Message {
	t.Helper()
	var messages []proto.Message
	for _, file := range []protoreflect.FileDescriptor{
		kmsv1.File_keyholt_kms_v1_key_service_proto,
		kmsv1.File_keyholt_kms_v1_crypto_service_proto,
		kmsv1.File_keyholt_kms_v1_system_service_proto,
	} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				kind, err := protoregistry.GlobalTypes.FindMessageByName(methods.Get(j).Input().FullName())
				if err != nil {
					t.Fatal(err)
				}
				messages = append(messages, kind.New().Interface())
			}
		}
	}
	if len(messages) < 20 {
		t.Fatalf("only %d requests", len(messages))
	}
	return messages
}

// fill sets every message field inside, lists with two, and calls visit with each
// message and its path.
func fill(path string, m protoreflect.Message, visit func(path string, m protoreflect.Message)) {
	visit(path, m)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			list := m.Mutable(field).List()
			for j := range 2 {
				fill(fmt.Sprintf("%s%s[%d].", path, field.Name(), j), list.AppendMutable().Message(), visit)
			}
		default:
			fill(path+string(field.Name())+".", m.Mutable(field).Message(), visit)
		}
	}
}

func TestUnknownFieldsAreRefusedWhereverTheyAre(t *testing.T) {
	unknown := protowire.AppendTag(nil, 4711, protowire.VarintType)
	unknown = protowire.AppendVarint(unknown, 1)
	places := 0
	for _, m := range requests(t) {
		var paths []string
		var inside []protoreflect.Message
		fill("", m.ProtoReflect(), func(path string, m protoreflect.Message) {
			paths, inside = append(paths, path), append(inside, m)
		})
		if err := Check(m); err != nil {
			t.Errorf("%T without unknown fields: %v", m, err)
		}
		for i, place := range inside {
			place.SetUnknown(unknown)
			var e *kms.Error
			if err := Check(m); !errors.As(err, &e) || !errors.Is(err, kms.ErrInvalidRequest) {
				t.Errorf("%T: an unknown field at %q: %v", m, paths[i], err)
			} else if len(e.Violations) != 1 || e.Violations[0].Field != paths[i]+"4711" ||
				!strings.Contains(e.Violations[0].Description, string(place.Descriptor().FullName())) {
				t.Errorf("%T: an unknown field at %q is told as %v", m, paths[i], e.Violations)
			}
			place.SetUnknown(nil)
			places++
		}
	}
	if places < 40 {
		t.Errorf("only %d places", places)
	}
}

// TestResponsesFit builds the longest response that each batch method can give.
func TestResponsesFit(t *testing.T) {
	long := strings.Repeat("x", 63)
	namespace := must(kms.NewNamespaceName(long))
	key := must(kms.NewKeyName(namespace, long))
	refusal := func(i int) error {
		return &kms.Error{
			Sentinel: kms.ErrVersionRevoked,
			Message:  strings.Repeat("m", 5000),
			Metadata: map[string]string{"state_reason": strings.Repeat("r", kms.MaxReason), "n": fmt.Sprint(i)},
		}
	}
	succeeded, failed := make([]kms.DataKeyResult, kms.MaxItems), make([]kms.DataKeyResult, kms.MaxItems)
	for i := range succeeded {
		version := key.Version(uint32(1<<31 - 1 - 2*i))
		succeeded[i] = kms.DataKeyResult{
			DataKey: make([]byte, 64), Wrapped: make([]byte, 256), Version: version, Target: key.Version(uint32(1<<31 - 2 - 2*i)),
			RewrapErr: refusal(i),
		}
		failed[i] = kms.DataKeyResult{Version: version, Err: refusal(i)}
	}
	for name, results := range map[string][]kms.DataKeyResult{"succeeded": succeeded, "failed": failed} {
		for _, m := range []proto.Message{
			EncodeGenerateDataKeysResponse(results, nil),
			EncodeWrapDataKeysResponse(results, nil),
			EncodeUnwrapDataKeysResponse(results, nil),
			EncodeRewrapDataKeysResponse(results, nil),
		} {
			if size := proto.Size(m); size > MaxMessageBytes {
				t.Errorf("%s: %T has %d bytes, %d are allowed", name, m, size, MaxMessageBytes)
			}
		}
	}
	signatures, tags := make([]kms.SignResult, kms.MaxItems), make([]kms.MacResult, kms.MaxItems)
	verdicts := make([]kms.VerifyMacResult, kms.MaxItems)
	const signed = kms.MaxItems / 2 // the others are refused
	for i := range signatures {
		version := key.Version(uint32(1<<31 - 1 - i))
		signatures[i] = kms.SignResult{Signature: make([]byte, 512), Version: version, Algorithm: kms.AlgorithmRSA4096PSSSHA512}
		tags[i] = kms.MacResult{Mac: make([]byte, 64), Version: version, Algorithm: kms.AlgorithmHMACSHA512}
		verdicts[i] = kms.VerifyMacResult{Version: version, Err: refusal(i)}
		if i >= signed {
			signatures[i] = kms.SignResult{Version: version, Err: refusal(i)}
			tags[i] = kms.MacResult{Version: version, Err: refusal(i)}
		}
	}
	for _, m := range []proto.Message{
		EncodeBatchSignResponse(signatures, nil), EncodeBatchGenerateMacResponse(tags, nil), EncodeBatchVerifyMacResponse(verdicts, nil),
	} {
		if size := proto.Size(m); size > MaxMessageBytes {
			t.Errorf("%T has %d bytes, %d are allowed", m, size, MaxMessageBytes)
		}
	}
	for i := range signatures {
		signatures[i] = kms.SignResult{
			Signature: make([]byte, 512), Version: key.Version(uint32(1<<31 - 1 - i)), Algorithm: kms.AlgorithmRSA4096PSSSHA512,
		}
	}
	if size := proto.Size(EncodeBatchSignResponse(signatures, nil)); size > MaxMessageBytes {
		t.Errorf("the longest signatures have %d bytes together", size)
	}
	// As much plaintext as a batch may have, and as many refusals beside it as fit in.
	payloads := make([]kms.PayloadResult, kms.MaxItems)
	for i := range payloads {
		payloads[i] = kms.PayloadResult{Version: key.Version(uint32(1<<31 - 1 - i)), Err: refusal(i)}
	}
	const full = kms.MaxBatchPlaintext / (64 << 10)
	for i := range full {
		payloads[i].Err, payloads[i].Plaintext = nil, make([]byte, 64<<10)
		payloads[i].Ciphertext = make([]byte, 64<<10+85)
	}
	for _, m := range []proto.Message{EncodeBatchEncryptResponse(payloads, nil), EncodeBatchDecryptResponse(payloads, nil)} {
		if size := proto.Size(m); size > MaxMessageBytes {
			t.Errorf("%T has %d bytes, %d are allowed", m, size, MaxMessageBytes)
		}
	}
	// Terse or not, every item says why.
	results, err := DecodeUnwrapDataKeysResponse(EncodeUnwrapDataKeysResponse(failed, nil))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if !errors.Is(r.Err, kms.ErrVersionRevoked) || r.Err.Error() == "" {
			t.Fatalf("item %d: %v", i, r.Err)
		}
	}
}

func TestTerseStatusesKeepTheIdentifier(t *testing.T) {
	s := statusEncoder{spent: maxStatusBytes}
	var id string
	s.report = func(reported string, _ error) { id = reported }
	got := s.encode(errors.New("unknown"))
	if got.GetMetadata()["error_id"] != id || id == "" || got.GetReason() != "INTERNAL" {
		t.Errorf("%v, reported as %q", got, id)
	}
}

func TestWipe(t *testing.T) {
	secret := func() []byte { return []byte("secret") }
	encrypt := &kmsv1.EncryptRequest{Plaintext: secret(), AdditionalAuthenticatedData: secret()}
	wrap := &kmsv1.WrapDataKeysRequest{Items: []*kmsv1.WrapDataKeysRequest_Item{{DataKey: secret()}, {DataKey: secret()}}}
	payloads := &kmsv1.BatchEncryptRequest{Items: []*kmsv1.BatchEncryptRequest_Item{{Plaintext: secret()}}}
	decrypted := &kmsv1.BatchDecryptResponse{Results: []*kmsv1.BatchDecryptResponse_Result{{Plaintext: secret()}}}
	unwrap := &kmsv1.UnwrapDataKeysResponse{Results: []*kmsv1.UnwrapDataKeysResponse_Result{{
		DataKey: secret(), RewrappedDataKey: secret(),
	}}}
	generate := &kmsv1.GenerateDataKeysResponse{Results: []*kmsv1.GenerateDataKeysResponse_Result{{
		DataKey: secret(), WrappedDataKey: secret(),
	}}}
	decrypt, random := &kmsv1.DecryptResponse{Plaintext: secret()}, &kmsv1.GenerateRandomResponse{Data: secret()}
	asymmetric := &kmsv1.AsymmetricDecryptResponse{Plaintext: secret()}
	for _, m := range []any{asymmetric, encrypt, payloads, decrypted, wrap, unwrap, generate, decrypt, random, &kmsv1.GetKeyRequest{}, nil} {
		Wipe(m)
	}
	for i, wiped := range [][]byte{
		encrypt.Plaintext, wrap.Items[0].DataKey, wrap.Items[1].DataKey, unwrap.Results[0].DataKey,
		generate.Results[0].DataKey, decrypt.Plaintext, random.Data, payloads.Items[0].Plaintext, decrypted.Results[0].Plaintext,
		asymmetric.Plaintext,
	} {
		if string(wiped) != "\x00\x00\x00\x00\x00\x00" {
			t.Errorf("secret %d is still %q", i, wiped)
		}
	}
	for i, kept := range [][]byte{
		encrypt.AdditionalAuthenticatedData, unwrap.Results[0].RewrappedDataKey, generate.Results[0].WrappedDataKey,
	} {
		if string(kept) != "secret" {
			t.Errorf("what is no secret, %d, became %q", i, kept)
		}
	}
}

// FuzzDecodeRequest feeds arbitrary bytes to each decoder: none may panic, and an error
// is one of the domain.
func FuzzDecodeRequest(f *testing.F) {
	messages := requests(f)
	for i, m := range messages {
		f.Add(uint8(i), []byte{})
		fill("", m.ProtoReflect(), func(_ string, m protoreflect.Message) {
			if name := m.Descriptor().Fields().ByName("name"); name != nil {
				m.Set(name, protoreflect.ValueOfString(aKey().String()))
			}
			if parent := m.Descriptor().Fields().ByName("parent"); parent != nil {
				m.Set(parent, protoreflect.ValueOfString(aNamespace().String()))
			}
		})
		encoded, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), encoded)
	}
	f.Fuzz(func(t *testing.T, which uint8, encoded []byte) {
		m := messages[int(which)%len(messages)].ProtoReflect().New().Interface()
		if proto.Unmarshal(encoded, m) != nil {
			return
		}
		checked := Check(m)
		for _, err := range []error{checked, decodeAny(t, m)} {
			if err != nil && !errors.Is(err, kms.ErrInvalidRequest) && !errors.Is(err, kms.ErrLimitExceeded) {
				t.Errorf("%T: %v", m, err)
			}
			if size := proto.Size(ToStatus(err, nil).Proto()); size > 6<<10 {
				t.Errorf("a status of %d bytes", size)
			}
		}
	})
}

func decodeAny(t *testing.T, m proto.Message) error {
	t.Helper()
	switch m := m.(type) {
	case *kmsv1.CreateNamespaceRequest:
		return errorOf(DecodeCreateNamespaceRequest(m))
	case *kmsv1.GetNamespaceRequest:
		return errorOf(DecodeGetNamespaceRequest(m))
	case *kmsv1.ListNamespacesRequest:
		DecodeListNamespacesRequest(m)
	case *kmsv1.CreateKeyRequest:
		return errorOf(DecodeCreateKeyRequest(m))
	case *kmsv1.GetKeyRequest:
		return errorOf(DecodeGetKeyRequest(m))
	case *kmsv1.ListKeysRequest:
		_, _, err := DecodeListKeysRequest(m)
		return err
	case *kmsv1.UpdateKeyRequest:
		return errorOf(DecodeUpdateKeyRequest(m))
	case *kmsv1.RotateKeyRequest:
		return errorOf(DecodeRotateKeyRequest(m))
	case *kmsv1.SetPrimaryKeyVersionRequest:
		return errorOf(DecodeSetPrimaryKeyVersionRequest(m))
	case *kmsv1.GetKeyVersionRequest:
		return errorOf(DecodeGetKeyVersionRequest(m))
	case *kmsv1.ListKeyVersionsRequest:
		_, _, err := DecodeListKeyVersionsRequest(m)
		return err
	case *kmsv1.EnableKeyVersionRequest:
		_, _, err := DecodeEnableKeyVersionRequest(m)
		return err
	case *kmsv1.DisableKeyVersionRequest:
		_, _, err := DecodeDisableKeyVersionRequest(m)
		return err
	case *kmsv1.RevokeKeyVersionRequest:
		return errorOf(DecodeRevokeKeyVersionRequest(m))
	case *kmsv1.RestrictKeyVersionRequest:
		return errorOf3(DecodeRestrictKeyVersionRequest(m))
	case *kmsv1.RestoreKeyVersionRequest:
		return errorOf3(DecodeRestoreKeyVersionRequest(m))
	case *kmsv1.ScheduleKeyVersionDestructionRequest:
		return errorOf(DecodeScheduleKeyVersionDestructionRequest(m))
	case *kmsv1.ResealStoreRequest:
		DecodeResealStoreRequest(m)
	case *kmsv1.RestoreStoreRequest:
		_, optionsErr := DecodeRestoreOptions(m)
		_, chunkErr := DecodeRestoreChunk(m)
		if optionsErr == nil && chunkErr == nil {
			t.Fatal("a part is both options and bytes")
		}
		return errors.Join(optionsErr, chunkErr)
	case *kmsv1.ScheduleOrphanDestructionRequest:
		return errorOf(DecodeScheduleOrphanDestructionRequest(m))
	case *kmsv1.EncryptRequest:
		return errorOf(DecodeEncryptRequest(m))
	case *kmsv1.DecryptRequest:
		return errorOf(DecodeDecryptRequest(m))
	case *kmsv1.ReEncryptRequest:
		return errorOf(DecodeReEncryptRequest(m))
	case *kmsv1.GenerateDataKeysRequest:
		return errorOf(DecodeGenerateDataKeysRequest(m))
	case *kmsv1.BatchEncryptRequest:
		return errorOf(DecodeBatchEncryptRequest(m))
	case *kmsv1.BatchDecryptRequest:
		return errorOf(DecodeBatchDecryptRequest(m))
	case *kmsv1.WrapDataKeysRequest:
		return errorOf(DecodeWrapDataKeysRequest(m))
	case *kmsv1.UnwrapDataKeysRequest:
		return errorOf(DecodeUnwrapDataKeysRequest(m))
	case *kmsv1.RewrapDataKeysRequest:
		return errorOf(DecodeRewrapDataKeysRequest(m))
	case *kmsv1.SignRequest:
		return errorOf(DecodeSignRequest(m))
	case *kmsv1.BatchSignRequest:
		return errorOf(DecodeBatchSignRequest(m))
	case *kmsv1.VerifyRequest:
		return errorOf(DecodeVerifyRequest(m))
	case *kmsv1.GetPublicKeyRequest:
		return errorOf(DecodeGetPublicKeyRequest(m))
	case *kmsv1.AsymmetricDecryptRequest:
		return errorOf(DecodeAsymmetricDecryptRequest(m))
	case *kmsv1.GenerateMacRequest:
		return errorOf(DecodeGenerateMacRequest(m))
	case *kmsv1.BatchGenerateMacRequest:
		return errorOf(DecodeBatchGenerateMacRequest(m))
	case *kmsv1.VerifyMacRequest:
		return errorOf(DecodeVerifyMacRequest(m))
	case *kmsv1.BatchVerifyMacRequest:
		return errorOf(DecodeBatchVerifyMacRequest(m))
	case *kmsv1.GenerateRandomRequest:
		DecodeGenerateRandomRequest(m)
	case *kmsv1.DiagnoseRequest, *kmsv1.WhoAmIRequest, *kmsv1.ListReplicasRequest, *kmsv1.VerifyStoreRequest,
		*kmsv1.BackupStoreRequest, *kmsv1.ListOrphansRequest: // empty
	default:
		t.Fatalf("no decoder of %T is tested", m)
	}
	return nil
}
