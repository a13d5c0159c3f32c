package echo

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/client"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// address waits for the line that names the address.
type address struct{ found chan string }

func (a address) Write(p []byte) (int, error) {
	if _, rest, ok := strings.Cut(string(p), "address="); ok {
		a.found <- strings.TrimSpace(rest)
	}
	return len(p), nil
}

// serve starts an echo server and returns a client of it.
func serve(t *testing.T) *client.Client {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	ca, err := authn.CreateLocalCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.IssueServer(in("server.pem"), in("server-key.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.IssueClient(in("client.pem"), in("client-key.pem"), "bench"); err != nil {
		t.Fatal(err)
	}
	listening := address{make(chan string, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, Config{
			Listen: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(listening, nil)),
			TLS: authn.TLSFiles{CertFile: in("server.pem"), KeyFile: in("server-key.pem"), ClientCAFile: ca.CertFile()},
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	c, err := client.Dial(ctx, client.Profile{
		Address: <-listening.found, CAFile: ca.CertFile(), CertFile: in("client.pem"), KeyFile: in("client-key.pem"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Answers are as long as kmsd's, or the comparison is none.
func TestAnswersHaveTheRightLengths(t *testing.T) {
	c := serve(t).Crypto()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	check := func(what string, got []byte, want int) {
		t.Helper()
		if len(got) != want {
			t.Errorf("%s has %d bytes, want %d", what, len(got), want)
		}
	}

	unwrapped, err := c.UnwrapDataKeys(ctx, &kmsv1.UnwrapDataKeysRequest{
		Items: []*kmsv1.UnwrapDataKeysRequest_Item{{WrappedDataKey: make([]byte, 92)}, {WrappedDataKey: make([]byte, 92)}},
	})
	if err != nil || len(unwrapped.GetResults()) != 2 || len(unwrapped.GetKeyVersions()) != 1 {
		t.Fatalf("unwrap: %v, %v", unwrapped, err)
	}
	check("an unwrapped key", unwrapped.GetResults()[1].GetDataKey(), 32)

	generated, err := c.GenerateDataKeys(ctx, &kmsv1.GenerateDataKeysRequest{Count: 3})
	if err != nil || len(generated.GetResults()) != 3 {
		t.Fatalf("generate: %v, %v", generated, err)
	}
	check("a generated key", generated.GetResults()[2].GetDataKey(), 32)
	check("a wrapped key", generated.GetResults()[2].GetWrappedDataKey(), 92)

	rewrapped, err := c.RewrapDataKeys(ctx, &kmsv1.RewrapDataKeysRequest{Items: make([]*kmsv1.RewrapDataKeysRequest_Item, 2)})
	if err != nil || len(rewrapped.GetResults()) != 2 {
		t.Fatalf("rewrap: %v, %v", rewrapped, err)
	}
	check("a rewrapped key", rewrapped.GetResults()[1].GetWrappedDataKey(), 92)

	encrypted, err := c.Encrypt(ctx, &kmsv1.EncryptRequest{Plaintext: make([]byte, 64)})
	if err != nil {
		t.Fatal(err)
	}
	check("a ciphertext", encrypted.GetCiphertext(), 124)
	decrypted, err := c.Decrypt(ctx, &kmsv1.DecryptRequest{Ciphertext: encrypted.GetCiphertext()})
	if err != nil {
		t.Fatal(err)
	}
	check("a plaintext", decrypted.GetPlaintext(), 64)

	batch, err := c.BatchEncrypt(ctx, &kmsv1.BatchEncryptRequest{Items: []*kmsv1.BatchEncryptRequest_Item{{Plaintext: make([]byte, 64)}}})
	if err != nil || len(batch.GetResults()) != 1 {
		t.Fatalf("batch encrypt: %v, %v", batch, err)
	}
	check("a ciphertext of a batch", batch.GetResults()[0].GetCiphertext(), 124)
	opened, err := c.BatchDecrypt(ctx, &kmsv1.BatchDecryptRequest{
		Items: []*kmsv1.BatchDecryptRequest_Item{{Ciphertext: make([]byte, 124)}, {Ciphertext: make([]byte, 10)}},
	})
	if err != nil || len(opened.GetResults()) != 2 {
		t.Fatalf("batch decrypt: %v, %v", opened, err)
	}
	check("a plaintext of a batch", opened.GetResults()[0].GetPlaintext(), 64)
	check("what is no ciphertext", opened.GetResults()[1].GetPlaintext(), 0)
}

// The interceptors of kmsd are there: they refuse what they refuse in kmsd.
func TestRequestsPassTheInterceptors(t *testing.T) {
	c := serve(t).Crypto()
	_, err := c.UnwrapDataKeys(t.Context(), &kmsv1.UnwrapDataKeysRequest{Items: make([]*kmsv1.UnwrapDataKeysRequest_Item, 4097)})
	if got := status.Code(err); got != codes.InvalidArgument && got != codes.ResourceExhausted {
		t.Errorf("4,097 items: %v, want a refusal", err)
	}
}

func TestServeNeedsCertificates(t *testing.T) {
	err := Serve(t.Context(), Config{
		Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		TLS: authn.TLSFiles{CertFile: "none", KeyFile: "none", ClientCAFile: "none"},
	})
	if err == nil {
		t.Error("it served without a certificate")
	}
}
