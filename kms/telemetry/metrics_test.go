package telemetry

import (
	"context"
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// TestMetricsOfRequests: what is counted after known requests to a real service.
func TestMetricsOfRequests(t *testing.T) {
	m := NewMetrics("v1.2.3")
	w := newWorld(t, m, nil)
	key := w.createKey(t, "orders", kms.ProfileDerived)
	strict := w.createKey(t, "strict", kms.ProfileStrict)
	wrapped := w.generate(t, key, 5)
	derivations := m.value(t, `keyholt_token_operations_total{operation="encrypt_blocks",outcome="ok"}`)

	must(t, w.unwrap(t.Context(), wrapped...))
	broken := append([]byte(nil), wrapped[0]...)
	broken[len(broken)-1] ^= 1
	must(t, w.unwrap(t.Context(), wrapped[0], broken, []byte("no ciphertext")))
	must(t, w.unwrap(t.Context(), w.generate(t, strict, 3)...))
	_, err := w.crypto.Decrypt(t.Context(), &kmsv1.DecryptRequest{Parent: "namespaces/default", Ciphertext: []byte("none")})
	if status.Code(err) != codes.InvalidArgument {
		t.Fatalf("Decrypt of nothing: %v", err)
	}

	m.want(t, map[string]float64{
		`keyholt_requests_total{action="UnwrapDataKeys",outcome="OK"}`:                3,
		`keyholt_requests_total{action="GenerateDataKeys",outcome="OK"}`:              2,
		`keyholt_requests_total{action="CreateKey",outcome="OK"}`:                     2,
		`keyholt_items_total{action="UnwrapDataKeys",outcome="OK"}`:                   5 + 1 + 3,
		`keyholt_items_total{action="UnwrapDataKeys",outcome="DECRYPTION_FAILED"}`:    1,
		`keyholt_items_total{action="UnwrapDataKeys",outcome="MALFORMED_CIPHERTEXT"}`: 1,
		`keyholt_items_total{action="GenerateDataKeys",outcome="OK"}`:                 5 + 3,
		`keyholt_request_items{action="UnwrapDataKeys"}`:                              3,
		`keyholt_token_operations_total{operation="encrypt_blocks",outcome="ok"}`:     derivations + 2,
		`keyholt_token_operations_total{operation="seal",outcome="ok"}`:               float64(w.token.Count(hsmtest.MethodSeal)),
		`keyholt_token_operations_total{operation="open",outcome="ok"}`:               float64(w.token.Count(hsmtest.MethodOpen)),
		`keyholt_token_operation_duration_seconds{operation="open"}`:                  float64(w.token.Count(hsmtest.MethodOpen)),
		`keyholt_namespaces`: 1,
		`keyholt_keys{profile="DERIVED",purpose="ENCRYPT_DECRYPT"}`: 1,
		`keyholt_keys{profile="STRICT",purpose="ENCRYPT_DECRYPT"}`:  1,
		`keyholt_keys{profile="",purpose="MAC"}`:                    0,
		`keyholt_key_versions{state="ENABLED"}`:                     2,
		`keyholt_key_versions{state="REVOKED"}`:                     0,
		`keyholt_key_versions_unavailable`:                          0,
		`keyholt_audit_failures_total`:                              0,
		`keyholt_queue_requests`:                                    0,
		`keyholt_token_up`:                                          1,
		`keyholt_token_sessions`:                                    float64(w.token.Info().Sessions),
		`keyholt_token_sessions_in_use`:                             2,
		`keyholt_token_calls_total{operation="encrypt_blocks"}`:     7001, // the token's own count
		`keyholt_token_calls_total{operation="generate_key"}`:       float64(w.token.Count(hsmtest.MethodGenerateKey)),
		`grpc_server_handled_total{grpc_code="OK",grpc_method="UnwrapDataKeys",grpc_service="keyholt.kms.v1.CryptoService",grpc_type="unary"}`:       3,
		`grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Decrypt",grpc_service="keyholt.kms.v1.CryptoService",grpc_type="unary"}`: 1,
		`grpc_server_handling_seconds{grpc_method="GenerateDataKeys",grpc_service="keyholt.kms.v1.CryptoService",grpc_type="unary"}`:                 2,
	})
	if m.has(t, `keyholt_token_calls_total{operation="sign_batch"}`) {
		t.Error("the calls of batches are counted apart, and the token counts them among those of single items")
	}
	if blocks := m.value(t, `keyholt_token_bytes_total{operation="encrypt_blocks"}`); blocks < 32*(5+5+2) {
		t.Errorf("%v bytes in blocks", blocks)
	}
	direct, merged := m.value(t, `keyholt_queue_wait_seconds`), m.value(t, `keyholt_queue_requests_per_call`)
	if calls := float64(w.token.Count(hsmtest.MethodEncryptBlocks)); direct != calls || merged != calls {
		t.Errorf("%v waits and %v calls, the token had %v, one after the other", direct, merged, calls)
	}
	if commits := m.value(t, `keyholt_store_commits_total{outcome="OK"}`); commits < 4 {
		t.Errorf("%v commits", commits)
	}
	records := m.value(t, `keyholt_audit_records_total`)
	if observed := m.value(t, `keyholt_audit_duration_seconds`); records < 8 || observed != records {
		t.Errorf("%v records, of which %v were timed", records, observed)
	}
}

// TestMetricsOfFailures: an item whose request failed as a whole is not counted as served.
func TestMetricsOfFailures(t *testing.T) {
	m := NewMetrics("v1.2.3")
	w := newWorld(t, m, nil)
	wrapped := w.generate(t, w.createKey(t, "orders", kms.ProfileDerived), 2)

	w.token.FailBefore(hsmtest.MethodEncryptBlocks, hsm.ErrUnavailable)
	if err := w.unwrap(t.Context(), wrapped...); status.Code(err) != codes.Unavailable {
		t.Fatalf("without a token: %v", err)
	}
	if err := w.token.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.token.FailBefore(hsmtest.MethodCheck, hsm.ErrLoginLost)
	if err := w.service.Check(t.Context()); err == nil {
		t.Fatal("the check succeeded")
	}
	m.want(t, map[string]float64{
		`keyholt_token_up`: 0,
		`keyholt_items_total{action="UnwrapDataKeys",outcome="TOKEN_UNAVAILABLE"}`:         2,
		`keyholt_requests_total{action="UnwrapDataKeys",outcome="TOKEN_UNAVAILABLE"}`:      1,
		`keyholt_token_operations_total{operation="encrypt_blocks",outcome="unavailable"}`: 1,
		`keyholt_token_operations_total{operation="check",outcome="login_lost"}`:           1,
	})
	w.token.Clear()
	must(t, w.service.Check(t.Context()))
	m.want(t, map[string]float64{`keyholt_token_up`: 1})

	w.audit.fail = errBroken
	if err := w.unwrap(t.Context(), wrapped...); err == nil {
		t.Fatal("served without a record")
	}
	m.want(t, map[string]float64{
		`keyholt_audit_failures_total`:                                                1,
		`keyholt_items_total{action="UnwrapDataKeys",outcome="AUDIT_UNAVAILABLE"}`:    2,
		`keyholt_requests_total{action="UnwrapDataKeys",outcome="AUDIT_UNAVAILABLE"}`: 1,
	})
	if m.has(t, `keyholt_items_total{action="UnwrapDataKeys",outcome="OK"}`) {
		t.Error("an item counts as served")
	}
}

// TestCommitFailure: the outcome of a commit is the reason of its error.
func TestCommitFailure(t *testing.T) {
	m := NewMetrics("v1.2.3")
	if _, err := m.Store(failingStore{}).Update(t.Context(), 0, nil); err == nil {
		t.Fatal("no error")
	}
	m.want(t, map[string]float64{`keyholt_store_commits_total{outcome="STORE_UNAVAILABLE"}`: 1})
}

type failingStore struct{ kms.Store }

func (failingStore) Update(
	context.Context, kms.Revision, func(*kms.Delta) (*kms.Change, error),
) (kms.Head, error) {
	return kms.Head{}, kms.ErrStoreUnavailable
}

// TestLint holds the names to the rules of Prometheus.
func TestLint(t *testing.T) {
	m := NewMetrics("v1.2.3")
	w := newWorld(t, m, nil)
	must(t, w.unwrap(t.Context(), w.generate(t, w.createKey(t, "orders", kms.ProfileDerived), 1)...))
	problems, err := testutil.GatherAndLint(m.registry)
	must(t, err)
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// TestOff: what is off hands back what it is given.
func TestOff(t *testing.T) {
	var m *Metrics
	var tracing *Tracing
	token, audit := hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open(), &notebook{}
	if Token(token, m, tracing) != token || m.Auditor(audit) != kms.Auditor(audit) || m.Store(nil) != nil {
		t.Error("something is watched")
	}
	if m.ServerOptions() != nil || tracing.ServerOptions() != nil || tracing.Observer() != nil ||
		QueueObserver(m, tracing) != nil {
		t.Error("something watches")
	}
	m.Inventory(nil)
	m.Schedule(nil)
	m.Replica(nil)
	m.Queue(nil)
	must(t, tracing.Close(t.Context()))
	must(t, token.Close())
}

// TestCallsPerRequest: the gauge is of the last minute, and NaN without requests.
func TestCallsPerRequest(t *testing.T) {
	m := NewMetrics("v1.2.3")
	w := newWorld(t, m, nil)
	if ratio := m.value(t, `keyholt_token_calls_per_request`); !math.IsNaN(ratio) {
		t.Errorf("%v before the first request", ratio)
	}
	w.generate(t, w.createKey(t, "orders", kms.ProfileDerived), 1)
	if ratio := m.value(t, `keyholt_token_calls_per_request`); math.IsNaN(ratio) || ratio < 0 {
		t.Errorf("%v after it", ratio)
	}
}
