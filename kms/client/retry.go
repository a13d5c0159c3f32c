package client

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// retryConfig is the methodConfig of gRPC's service config: which methods may be
// repeated when the service was unavailable. All those are in it that leave the same
// behind when they are carried out twice; of Sign the worst is a second signature of the
// same, which nobody has. CreateKey, RotateKey, CreateImportJob and
// ImportKeyVersion are, because withRequestID gives each a request id. CreateNamespace and UpdateKey are not: of a
// call that was carried out and whose answer was lost, the repetition would report
// that the namespace exists, or that the etag has changed. ResealStore is not either: it
// would make another seal key; nor are the streams, whose bytes are gone.
func retryConfig() string {
	repeatable := []string{
		kmsv1.KeyService_GetNamespace_FullMethodName,
		kmsv1.KeyService_ListNamespaces_FullMethodName,
		kmsv1.KeyService_CreateKey_FullMethodName,
		kmsv1.KeyService_GetKey_FullMethodName,
		kmsv1.KeyService_ListKeys_FullMethodName,
		kmsv1.KeyService_RotateKey_FullMethodName,
		kmsv1.KeyService_SetPrimaryKeyVersion_FullMethodName,
		kmsv1.KeyService_GetKeyVersion_FullMethodName,
		kmsv1.KeyService_ListKeyVersions_FullMethodName,
		kmsv1.KeyService_EnableKeyVersion_FullMethodName,
		kmsv1.KeyService_DisableKeyVersion_FullMethodName,
		kmsv1.KeyService_RestrictKeyVersion_FullMethodName,
		kmsv1.KeyService_RevokeKeyVersion_FullMethodName,
		kmsv1.KeyService_ScheduleKeyVersionDestruction_FullMethodName,
		kmsv1.KeyService_RestoreKeyVersion_FullMethodName,
		kmsv1.CryptoService_Encrypt_FullMethodName,
		kmsv1.CryptoService_Decrypt_FullMethodName,
		kmsv1.CryptoService_ReEncrypt_FullMethodName,
		kmsv1.CryptoService_BatchEncrypt_FullMethodName,
		kmsv1.CryptoService_BatchDecrypt_FullMethodName,
		kmsv1.CryptoService_GenerateDataKeys_FullMethodName,
		kmsv1.CryptoService_WrapDataKeys_FullMethodName,
		kmsv1.CryptoService_UnwrapDataKeys_FullMethodName,
		kmsv1.CryptoService_RewrapDataKeys_FullMethodName,
		kmsv1.CryptoService_Sign_FullMethodName,
		kmsv1.CryptoService_BatchSign_FullMethodName,
		kmsv1.CryptoService_Verify_FullMethodName,
		kmsv1.CryptoService_GetPublicKey_FullMethodName,
		kmsv1.CryptoService_AsymmetricDecrypt_FullMethodName,
		kmsv1.CryptoService_GenerateMac_FullMethodName,
		kmsv1.CryptoService_BatchGenerateMac_FullMethodName,
		kmsv1.CryptoService_VerifyMac_FullMethodName,
		kmsv1.CryptoService_BatchVerifyMac_FullMethodName,
		kmsv1.CryptoService_GenerateRandom_FullMethodName,
		kmsv1.ImportService_CreateImportJob_FullMethodName,
		kmsv1.ImportService_GetImportJob_FullMethodName,
		kmsv1.ImportService_ListImportJobs_FullMethodName,
		kmsv1.ImportService_ImportKeyVersion_FullMethodName,
		kmsv1.SystemService_Diagnose_FullMethodName,
		kmsv1.SystemService_WhoAmI_FullMethodName,
		kmsv1.SystemService_ListReplicas_FullMethodName,
		kmsv1.SystemService_VerifyStore_FullMethodName,
		kmsv1.SystemService_ListOrphans_FullMethodName,
		kmsv1.SystemService_ScheduleOrphanDestruction_FullMethodName,
	}
	names := make([]string, len(repeatable))
	for i, full := range repeatable { // "/package.Service/Method"
		service, method, _ := strings.Cut(full[1:], "/")
		names[i] = `{"service": "` + service + `", "method": "` + method + `"}`
	}
	return `{"name": [` + strings.Join(names, ", ") + `], "retryPolicy": {` +
		`"maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2, ` +
		`"retryableStatusCodes": ["UNAVAILABLE"]}}`
}

// withDeadline gives a call without a deadline one.
func withDeadline(timeout time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		if _, ok := ctx.Deadline(); !ok && timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		return invoke(ctx, method, req, reply, conn, opts...)
	}
}

// withRequestID gives a call that makes a key version or an import job a request id if the caller has
// not: gRPC repeats a call below the interceptors, so all attempts carry the same, and
// the service makes nothing twice. The caller's message is not changed.
func withRequestID(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	switch r := req.(type) {
	case *kmsv1.CreateKeyRequest:
		if r.GetRequestId() == "" {
			r = proto.CloneOf(r)
			r.RequestId = uuid.NewString()
			req = r
		}
	case *kmsv1.RotateKeyRequest:
		if r.GetRequestId() == "" {
			r = proto.CloneOf(r)
			r.RequestId = uuid.NewString()
			req = r
		}
	case *kmsv1.CreateImportJobRequest:
		if r.GetRequestId() == "" {
			r = proto.CloneOf(r)
			r.RequestId = uuid.NewString()
			req = r
		}
	case *kmsv1.ImportKeyVersionRequest:
		if r.GetRequestId() == "" {
			r = proto.CloneOf(r)
			r.RequestId = uuid.NewString()
			req = r
		}
	}
	return invoke(ctx, method, req, reply, conn, opts...)
}
