package grpcapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// lineWith waits for the log to have a line with the text: the line about a request is
// written after the answer has left.
func (r *running) lineWith(t *testing.T, text string) map[string]any {
	t.Helper()
	r.stop()
	if err := <-r.served; err != nil {
		t.Fatal(err)
	}
	close(r.served)
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, text) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			return fields
		}
	}
	t.Fatalf("no line with %q in the log:\n%s", text, r.log)
	return nil
}

func failing(err error) *fakeAPI {
	return &fakeAPI{random: func(context.Context, int) (kms.Secret, error) { return nil, err }}
}

func TestErrorsOfTheDomainAndTheirLog(t *testing.T) {
	r := serve(t, Config{API: failing(&kms.Error{
		Sentinel: kms.ErrStoreUnavailable, Message: "cannot write", Cause: errors.New("no space left on device"),
	})})
	_, err := r.crypto().GenerateRandom(t.Context(), &kmsv1.GenerateRandomRequest{Size: 1})
	if !errors.Is(wire.FromStatus(err), kms.ErrStoreUnavailable) || strings.Contains(err.Error(), "space") {
		t.Errorf("the caller is told %v", err)
	}
	line := r.lineWith(t, "finished call")
	for field, want := range map[string]any{
		"level":        "WARN",
		"grpc.service": "keyholt.kms.v1.CryptoService",
		"grpc.method":  "GenerateRandom",
		"grpc.code":    "Unavailable",
		"principal":    "unix:1000",
		"reason":       "STORE_UNAVAILABLE",
		"cause":        "no space left on device",
	} {
		if line[field] != want {
			t.Errorf("%s is %v, want %v", field, line[field], want)
		}
	}
}

func TestUnknownErrors(t *testing.T) {
	r := serve(t, Config{API: failing(errors.New("secret detail"))})
	_, err := r.crypto().GenerateRandom(t.Context(), &kmsv1.GenerateRandomRequest{Size: 1})
	checkInternal(t, r, err, "secret detail")
}

func TestPanics(t *testing.T) {
	r := serve(t, Config{API: &fakeAPI{random: func(context.Context, int) (kms.Secret, error) {
		panic("secret detail") //nolint:forbidigo // what the test is about
	}}})
	_, err := r.crypto().GenerateRandom(t.Context(), &kmsv1.GenerateRandomRequest{Size: 1})
	line := checkInternal(t, r, err, "secret detail")
	if text, _ := line["error"].(string); !strings.Contains(text, "errors_test.go") {
		t.Errorf("no stack in %q", text)
	}
}

// checkInternal checks that a caller got nothing but an identifier, and the log all.
func checkInternal(t *testing.T, r *running, err error, secret string) map[string]any {
	t.Helper()
	var e *kms.Error
	if status.Code(err) != codes.Internal || !errors.As(wire.FromStatus(err), &e) || !errors.Is(e, wire.ErrInternal) {
		t.Fatalf("%v is not internal", err)
	}
	if s, _ := status.FromError(err); strings.Contains(s.Proto().String(), secret) {
		t.Errorf("the caller is told %v", s.Proto())
	}
	line := r.lineWith(t, e.Metadata["error_id"])
	if text, _ := line["error"].(string); !strings.Contains(text, secret) || line["level"] != "ERROR" {
		t.Errorf("the log has %v", line)
	}
	return line
}

func TestErrorsOfItems(t *testing.T) {
	r := serve(t, Config{API: &fakeAPI{
		unwrap: func(_ context.Context, p kms.Principal, r *kms.UnwrapDataKeysRequest) ([]kms.DataKeyResult, error) {
			if p != somebody() {
				return nil, fmt.Errorf("principal %v", p)
			}
			return []kms.DataKeyResult{
				{DataKey: kms.Secret("key"), Version: key(t).Version(1)},
				{Err: r.Items[1].Invalid},
				{Err: errors.New("secret detail")},
			}, nil
		},
	}})
	m := unwrapRequest(3, 4)
	m.Items[1].Key = "nonsense"
	response, err := r.crypto().UnwrapDataKeys(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	results, err := wire.DecodeUnwrapDataKeysResponse(response)
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Err != nil || string(results[0].DataKey) != "key" || results[0].Version != key(t).Version(1) {
		t.Errorf("item 0: %v", results[0].Err)
	}
	if !errors.Is(results[1].Err, kms.ErrInvalidRequest) {
		t.Errorf("item 1: %v", results[1].Err)
	}
	var e *kms.Error
	if !errors.Is(results[2].Err, wire.ErrInternal) || !errors.As(results[2].Err, &e) || strings.Contains(e.Error(), "secret") {
		t.Fatalf("item 2: %v", results[2].Err)
	}
	if line := r.lineWith(t, e.Metadata["error_id"]); line["error"] != "secret detail" {
		t.Errorf("the log has %v", line)
	}
}

func TestSecretsAreNotLoggedAndWipedAfterwards(t *testing.T) {
	const marker = "MARKER"
	long := func() []byte { return bytes.Repeat([]byte(marker), 300) } // beyond the size of pooled buffers
	var given, returned []byte
	api := &fakeAPI{
		wrap: func(_ context.Context, r *kms.WrapDataKeysRequest) ([]kms.DataKeyResult, error) {
			given = r.Items[0].DataKey
			if !bytes.Equal(given, long()) {
				return nil, errors.New("the data key did not arrive")
			}
			return []kms.DataKeyResult{{Wrapped: []byte("blob"), Version: key(t).Version(1)}}, nil
		},
		random: func(context.Context, int) (kms.Secret, error) {
			returned = long()
			return returned, nil
		},
	}
	r := serve(t, Config{API: api})
	_, err := r.crypto().WrapDataKeys(t.Context(), &kmsv1.WrapDataKeysRequest{
		Parent:                      "namespaces/shop",
		Items:                       []*kmsv1.WrapDataKeysRequest_Item{{DataKey: long()}},
		AdditionalAuthenticatedData: long(),
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := r.crypto().GenerateRandom(t.Context(), &kmsv1.GenerateRandomRequest{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(response.GetData(), long()) {
		t.Error("the response did not arrive whole")
	}
	if line := r.lineWith(t, "GenerateRandom"); line["level"] != "DEBUG" {
		t.Errorf("the line of a success: %v", line)
	}
	for name, secret := range map[string][]byte{"request": given, "response": returned} {
		if !bytes.Equal(secret, make([]byte, len(long()))) {
			t.Errorf("the secret of the %s was not wiped", name)
		}
	}
	if strings.Contains(r.log.String(), marker) || strings.Contains(r.log.String(), "TUFSS0VS") {
		t.Error("a secret is in the log")
	}
}
