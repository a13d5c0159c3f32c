package grpcapi

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// recorder notes which method was asked by whom, and answers with nearly nothing.
type recorder struct {
	method    string
	principal kms.Principal
}

func note[R any](r *recorder, method string, p kms.Principal, result R) (R, error) {
	r.method, r.principal = method, p
	return result, nil
}

func (r *recorder) CreateNamespace(_ context.Context, p kms.Principal, _ kms.NamespaceName) (*kms.Namespace, error) {
	return note(r, "CreateNamespace", p, &kms.Namespace{})
}

func (r *recorder) GetNamespace(_ context.Context, p kms.Principal, _ kms.NamespaceName) (*kms.Namespace, error) {
	return note(r, "GetNamespace", p, &kms.Namespace{})
}

func (r *recorder) ListNamespaces(_ context.Context, p kms.Principal, _ kms.Page) (*kms.NamespaceList, error) {
	return note(r, "ListNamespaces", p, &kms.NamespaceList{})
}

func (r *recorder) CreateKey(_ context.Context, p kms.Principal, _ *kms.CreateKeyRequest) (*kms.KeyInfo, error) {
	return note(r, "CreateKey", p, &kms.KeyInfo{})
}

func (r *recorder) GetKey(_ context.Context, p kms.Principal, _ kms.KeyName) (*kms.KeyInfo, error) {
	return note(r, "GetKey", p, &kms.KeyInfo{})
}

func (r *recorder) ListKeys(_ context.Context, p kms.Principal, _ kms.NamespaceName, _ kms.Page) (*kms.KeyList, error) {
	return note(r, "ListKeys", p, &kms.KeyList{})
}

func (r *recorder) UpdateKey(_ context.Context, p kms.Principal, _ *kms.UpdateKeyRequest) (*kms.KeyInfo, error) {
	return note(r, "UpdateKey", p, &kms.KeyInfo{})
}

func (r *recorder) RotateKey(_ context.Context, p kms.Principal, _ *kms.RotateKeyRequest) (*kms.RotateKeyResult, error) {
	return note(r, "RotateKey", p, &kms.RotateKeyResult{Version: &kms.VersionInfo{}, Key: &kms.KeyInfo{}})
}

func (r *recorder) GetKeyVersion(_ context.Context, p kms.Principal, _ kms.VersionName) (*kms.VersionInfo, error) {
	return note(r, "GetKeyVersion", p, &kms.VersionInfo{})
}

func (r *recorder) ListKeyVersions(_ context.Context, p kms.Principal, _ kms.KeyName, _ kms.Page) (*kms.VersionList, error) {
	return note(r, "ListKeyVersions", p, &kms.VersionList{})
}

func (r *recorder) EnableKeyVersion(_ context.Context, p kms.Principal, _ kms.VersionName, _ string) (*kms.StateChange, error) {
	return note(r, "EnableKeyVersion", p, &kms.StateChange{Version: &kms.VersionInfo{}})
}

func (r *recorder) DisableKeyVersion(_ context.Context, p kms.Principal, _ kms.VersionName, _ string) (*kms.StateChange, error) {
	return note(r, "DisableKeyVersion", p, &kms.StateChange{Version: &kms.VersionInfo{}})
}

func (r *recorder) RevokeKeyVersion(_ context.Context, p kms.Principal, _ *kms.RevokeRequest) (*kms.StateChange, error) {
	return note(r, "RevokeKeyVersion", p, &kms.StateChange{Version: &kms.VersionInfo{}})
}

func (r *recorder) SetPrimaryKeyVersion(_ context.Context, p kms.Principal, _ *kms.SetPrimaryRequest) (*kms.SetPrimaryResult, error) {
	return note(r, "SetPrimaryKeyVersion", p, &kms.SetPrimaryResult{Version: &kms.VersionInfo{}, Key: &kms.KeyInfo{}})
}

func (r *recorder) RestrictKeyVersion(_ context.Context, p kms.Principal, _ kms.VersionName, _ string) (*kms.StateChange, error) {
	return note(r, "RestrictKeyVersion", p, &kms.StateChange{Version: &kms.VersionInfo{}})
}

func (r *recorder) RestoreKeyVersion(_ context.Context, p kms.Principal, _ kms.VersionName, _ string) (*kms.StateChange, error) {
	return note(r, "RestoreKeyVersion", p, &kms.StateChange{Version: &kms.VersionInfo{}})
}

func (r *recorder) ScheduleKeyVersionDestruction(_ context.Context, p kms.Principal, _ *kms.DestructionRequest) (*kms.StateChange, error) {
	return note(r, "ScheduleKeyVersionDestruction", p, &kms.StateChange{Version: &kms.VersionInfo{}})
}

func (r *recorder) CreateImportJob(_ context.Context, p kms.Principal, _ *kms.CreateImportJobRequest) (*kms.ImportJob, error) {
	return note(r, "CreateImportJob", p, &kms.ImportJob{})
}

func (r *recorder) GetImportJob(_ context.Context, p kms.Principal, _ kms.ImportJobName) (*kms.ImportJob, error) {
	return note(r, "GetImportJob", p, &kms.ImportJob{})
}

func (r *recorder) ListImportJobs(_ context.Context, p kms.Principal, _ kms.NamespaceName, _ kms.Page) (*kms.ImportJobList, error) {
	return note(r, "ListImportJobs", p, &kms.ImportJobList{})
}

func (r *recorder) ImportKeyVersion(_ context.Context, p kms.Principal, _ *kms.ImportKeyVersionRequest) (*kms.ImportKeyVersionResult, error) {
	return note(r, "ImportKeyVersion", p, &kms.ImportKeyVersionResult{Version: &kms.VersionInfo{}, Key: &kms.KeyInfo{}})
}

func (r *recorder) ListReplicas(_ context.Context, p kms.Principal) ([]*kms.ReplicaInfo, error) {
	return note(r, "ListReplicas", p, []*kms.ReplicaInfo{{}})
}

func (r *recorder) VerifyStore(_ context.Context, p kms.Principal) (*kms.StoreReport, error) {
	return note(r, "VerifyStore", p, &kms.StoreReport{})
}

func (r *recorder) ResealStore(_ context.Context, p kms.Principal, _ string) (*kms.StoreReport, error) {
	return note(r, "ResealStore", p, &kms.StoreReport{})
}

func (r *recorder) BackupStore(_ context.Context, p kms.Principal, _ io.Writer) (*kms.StoreReport, error) {
	return note(r, "BackupStore", p, &kms.StoreReport{})
}

func (r *recorder) RestoreStore(_ context.Context, p kms.Principal, _ *kms.RestoreStoreRequest) (*kms.StoreReport, error) {
	return note(r, "RestoreStore", p, &kms.StoreReport{})
}

func (r *recorder) ListOrphans(_ context.Context, p kms.Principal) ([]*kms.OrphanInfo, error) {
	return note(r, "ListOrphans", p, []*kms.OrphanInfo{{}})
}

func (r *recorder) ScheduleOrphanDestruction(_ context.Context, p kms.Principal, _ *kms.OrphanDestructionRequest) ([]*kms.OrphanInfo, error) {
	return note(r, "ScheduleOrphanDestruction", p, []*kms.OrphanInfo{{}})
}

func (r *recorder) Encrypt(_ context.Context, p kms.Principal, _ *kms.EncryptRequest) (*kms.EncryptResult, error) {
	return note(r, "Encrypt", p, &kms.EncryptResult{})
}

func (r *recorder) Decrypt(_ context.Context, p kms.Principal, _ *kms.DecryptRequest) (*kms.DecryptResult, error) {
	return note(r, "Decrypt", p, &kms.DecryptResult{})
}

func (r *recorder) ReEncrypt(_ context.Context, p kms.Principal, _ *kms.ReEncryptRequest) (*kms.ReEncryptResult, error) {
	return note(r, "ReEncrypt", p, &kms.ReEncryptResult{})
}

func (r *recorder) BatchEncrypt(_ context.Context, p kms.Principal, _ *kms.BatchEncryptRequest) ([]kms.PayloadResult, error) {
	return note(r, "BatchEncrypt", p, []kms.PayloadResult{{}})
}

func (r *recorder) BatchDecrypt(_ context.Context, p kms.Principal, _ *kms.BatchDecryptRequest) ([]kms.PayloadResult, error) {
	return note(r, "BatchDecrypt", p, []kms.PayloadResult{{}})
}

func (r *recorder) GenerateDataKeys(_ context.Context, p kms.Principal, _ *kms.GenerateDataKeysRequest) ([]kms.DataKeyResult, error) {
	return note(r, "GenerateDataKeys", p, []kms.DataKeyResult{{}})
}

func (r *recorder) WrapDataKeys(_ context.Context, p kms.Principal, _ *kms.WrapDataKeysRequest) ([]kms.DataKeyResult, error) {
	return note(r, "WrapDataKeys", p, []kms.DataKeyResult{{}})
}

func (r *recorder) UnwrapDataKeys(_ context.Context, p kms.Principal, _ *kms.UnwrapDataKeysRequest) ([]kms.DataKeyResult, error) {
	return note(r, "UnwrapDataKeys", p, []kms.DataKeyResult{{}})
}

func (r *recorder) RewrapDataKeys(_ context.Context, p kms.Principal, _ *kms.RewrapDataKeysRequest) ([]kms.DataKeyResult, error) {
	return note(r, "RewrapDataKeys", p, []kms.DataKeyResult{{}})
}

func (r *recorder) Sign(_ context.Context, p kms.Principal, _ *kms.SignRequest) (*kms.SignResult, error) {
	return note(r, "Sign", p, &kms.SignResult{})
}

func (r *recorder) BatchSign(_ context.Context, p kms.Principal, _ *kms.BatchSignRequest) ([]kms.SignResult, error) {
	return note(r, "BatchSign", p, []kms.SignResult{{}})
}

func (r *recorder) Verify(_ context.Context, p kms.Principal, _ *kms.VerifyRequest) (*kms.VerifyResult, error) {
	return note(r, "Verify", p, &kms.VerifyResult{})
}

func (r *recorder) GetPublicKey(_ context.Context, p kms.Principal, _ *kms.GetPublicKeyRequest) (*kms.PublicKey, error) {
	return note(r, "GetPublicKey", p, &kms.PublicKey{})
}

func (r *recorder) AsymmetricDecrypt(_ context.Context, p kms.Principal, _ *kms.AsymmetricDecryptRequest) (*kms.AsymmetricDecryptResult, error) {
	return note(r, "AsymmetricDecrypt", p, &kms.AsymmetricDecryptResult{})
}

func (r *recorder) GenerateMac(_ context.Context, p kms.Principal, _ *kms.GenerateMacRequest) (*kms.MacResult, error) {
	return note(r, "GenerateMac", p, &kms.MacResult{})
}

func (r *recorder) BatchGenerateMac(_ context.Context, p kms.Principal, _ *kms.BatchGenerateMacRequest) ([]kms.MacResult, error) {
	return note(r, "BatchGenerateMac", p, []kms.MacResult{{}})
}

func (r *recorder) VerifyMac(_ context.Context, p kms.Principal, _ *kms.VerifyMacRequest) (*kms.VerifyMacResult, error) {
	return note(r, "VerifyMac", p, &kms.VerifyMacResult{})
}

func (r *recorder) BatchVerifyMac(_ context.Context, p kms.Principal, _ *kms.BatchVerifyMacRequest) ([]kms.VerifyMacResult, error) {
	return note(r, "BatchVerifyMac", p, []kms.VerifyMacResult{{}})
}

func (r *recorder) GenerateRandom(_ context.Context, p kms.Principal, size int) (kms.Secret, error) {
	return note(r, "GenerateRandom", p, make(kms.Secret, size))
}

func (r *recorder) Diagnose(_ context.Context, p kms.Principal) ([]kms.Finding, error) {
	return note(r, "Diagnose", p, []kms.Finding{{Area: "token", Severity: kms.SeverityOK}})
}

// valid fills the fields that a request needs.
func valid(m proto.Message) proto.Message {
	const name = "namespaces/shop/keys/orders"
	texts := map[protoreflect.Name]map[protoreflect.Name]string{
		"CreateNamespaceRequest":               {"namespace_id": "shop"},
		"GetNamespaceRequest":                  {"name": "namespaces/shop"},
		"ListKeyVersionsRequest":               {"parent": name},
		"GetKeyVersionRequest":                 {"name": name + "/versions/1"},
		"SetPrimaryKeyVersionRequest":          {"name": name + "/versions/1"},
		"EnableKeyVersionRequest":              {"name": name + "/versions/1"},
		"DisableKeyVersionRequest":             {"name": name + "/versions/1"},
		"RevokeKeyVersionRequest":              {"name": name + "/versions/1"},
		"RestrictKeyVersionRequest":            {"name": name + "/versions/1"},
		"RestoreKeyVersionRequest":             {"name": name + "/versions/1"},
		"ScheduleKeyVersionDestructionRequest": {"name": name + "/versions/1"},
		"CreateImportJobRequest":               {"import_job_id": "laptop"},
		"GetImportJobRequest":                  {"name": "namespaces/shop/importJobs/laptop"},
		"ImportKeyVersionRequest":              {"parent": name, "import_job": "namespaces/shop/importJobs/laptop"},
	}
	r := m.ProtoReflect()
	for _, set := range []map[protoreflect.Name]string{
		{"name": name, "parent": "namespaces/shop", "key_id": "orders", "key": name},
		texts[r.Descriptor().Name()],
	} {
		for field, text := range set {
			if f := r.Descriptor().Fields().ByName(field); f != nil && f.Kind() == protoreflect.StringKind {
				r.Set(f, protoreflect.ValueOfString(text))
			}
		}
	}
	if items := r.Descriptor().Fields().ByName("items"); items != nil {
		r.Mutable(items).List().AppendMutable()
	}
	if options := r.Descriptor().Fields().ByName("options"); options != nil {
		r.Mutable(options)
	}
	if update, ok := m.(*kmsv1.UpdateKeyRequest); ok {
		update.Key = &kmsv1.Key{Name: name}
		update.UpdateMask = &fieldmaskpb.FieldMask{Paths: []string{"labels"}}
	}
	return m
}

// Every method of the contract asks the method of the API that has its name, as the
// principal of the connection. WhoAmI asks nobody.
func TestRoutes(t *testing.T) {
	api := &recorder{}
	r := serve(t, Config{API: api, Version: "v1.2.3"})
	for _, file := range []protoreflect.FileDescriptor{
		kmsv1.File_keyholt_kms_v1_key_service_proto,
		kmsv1.File_keyholt_kms_v1_crypto_service_proto,
		kmsv1.File_keyholt_kms_v1_import_service_proto,
		kmsv1.File_keyholt_kms_v1_system_service_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				request, response := message(t, method.Input()), message(t, method.Output())
				path := "/" + string(service.FullName()) + "/" + string(method.Name())
				api.method, api.principal = "", kms.Principal{}
				want, caller := string(method.Name()), somebody()
				if want == "WhoAmI" {
					want, caller = "", kms.Principal{}
				}
				if err := invoke(t.Context(), r.conn, path, method, valid(request), response); err != nil {
					t.Errorf("%s: %v", path, err)
				} else if api.method != want || api.principal != caller {
					t.Errorf("%s asked %s as %+v", path, api.method, api.principal)
				}
			}
		}
	}

	d, err := kmsv1.NewSystemServiceClient(r.conn).Diagnose(t.Context(), &kmsv1.DiagnoseRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if d.GetServerVersion() != "v1.2.3" || d.GetPrincipal() != "unix:1000" || d.GetServerTime() == nil || len(d.GetFindings()) != 1 {
		t.Errorf("diagnosis %v", d)
	}
}

// invoke makes a call with one message each way, whether or not the method is a stream.
func invoke(ctx context.Context, conn *grpc.ClientConn, path string, method protoreflect.MethodDescriptor,
	request, response proto.Message,
) error {
	if !method.IsStreamingClient() && !method.IsStreamingServer() {
		return conn.Invoke(ctx, path, request, response)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{
		ClientStreams: method.IsStreamingClient(), ServerStreams: method.IsStreamingServer(),
	}, path)
	if err != nil {
		return err
	}
	return errors.Join(stream.SendMsg(request), stream.CloseSend(), stream.RecvMsg(response))
}

func message(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}
