package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/authz"
	"github.com/keyholt/keyholt/kms/grpcapi"
	"github.com/keyholt/keyholt/kms/keystore"
)

// world is a service in this process, on an in-memory token, and a directory for files.
type world struct {
	*testing.T
	dir     string
	profile string
	server  *grpcapi.Server
	service *kms.Service
	token   hsm.Token

	terminal bool // every stream claims to be one
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldFor(t, authz.LocalAdministrators{UID: uint32(os.Getuid())})
}

// newWorldFor is newWorld with rights of the test's choice.
func newWorldFor(t *testing.T, rights kms.Authorizer) *world {
	t.Helper()
	token := hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open()
	w := &world{T: t, dir: t.TempDir(), token: token}
	t.Cleanup(func() { w.must(token.Close()) })
	ctx := t.Context()
	store, err := keystore.OpenStore(ctx, keystore.Config{Driver: "sqlite", DSN: w.file("keyholt.db")}, token)
	w.must(err)
	t.Cleanup(func() { w.must(store.Close()) })
	service, err := kms.New(ctx, kms.Config{
		Token: token, Store: store, Auditor: noAudit{},
		Authorizer: rights,
		Logger:     slog.New(slog.DiscardHandler),
	})
	w.must(err)
	t.Cleanup(service.Close)
	w.service = service
	w.serve(service)
	return w
}

func (w *world) serve(api kms.API) {
	w.Helper()
	var err error
	w.server, err = grpcapi.New(grpcapi.Config{
		API: api, Credentials: authn.ServerCredentials(nil), Logger: slog.New(slog.DiscardHandler), Version: "v1.2.3",
	})
	w.must(err)
	w.server.SetServing(true)
	socket, err := net.Listen("unix", w.file("s"))
	w.must(err)
	ctx, stop := context.WithCancel(context.WithoutCancel(w.Context()))
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(ctx, socket) }()
	w.Cleanup(func() {
		stop()
		w.must(<-done)
	})
	w.profile = w.write("profile.yaml", "address: unix://"+w.file("s")+"\n")
}

// noAudit is an auditor for tests of something else.
type noAudit struct{}

func (noAudit) Record(context.Context, *kms.Event) error { return nil }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) string {
	w.Helper()
	w.must(os.WriteFile(w.file(name), []byte(text), 0o600))
	return w.file(name)
}

func (w *world) read(name string) string {
	w.Helper()
	text, err := os.ReadFile(w.file(name))
	w.must(err)
	return string(text)
}

// exit runs kmsctl and returns all there is to see.
func (w *world) exit(stdin string, args ...string) (stdout, stderr string, code int) {
	w.Helper()
	var out, errOut bytes.Buffer
	code = run(w.Context(), args, &app{
		stdin: strings.NewReader(stdin), stdout: &out, stderr: &errOut,
		getenv: func(name string) string {
			if name == profileVariable {
				return w.profile
			}
			return ""
		},
		terminal: func(any) bool { return w.terminal },
	})
	return out.String(), errOut.String(), code
}

// ok runs kmsctl, which must succeed, and returns standard output.
func (w *world) ok(args ...string) string {
	w.Helper()
	return w.okWith("", args...)
}

func (w *world) okWith(stdin string, args ...string) string {
	w.Helper()
	stdout, stderr, code := w.exit(stdin, args...)
	if code != exitOK {
		w.Fatalf("kmsctl %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// fails runs kmsctl, which must fail with the code, print nothing to standard output, and
// say each of the texts.
func (w *world) fails(code int, args []string, texts ...string) {
	w.Helper()
	w.failsWith("", code, args, texts...)
}

func (w *world) failsWith(stdin string, code int, args []string, texts ...string) {
	w.Helper()
	stdout, stderr, got := w.exit(stdin, args...)
	if got != code || stdout != "" {
		w.Errorf("kmsctl %s: exit code %d, want %d; standard output %q\n%s",
			strings.Join(args, " "), got, code, stdout, stderr)
	}
	for _, text := range texts {
		if !strings.Contains(stderr, text) {
			w.Errorf("kmsctl %s: does not say %q, but:\n%s", strings.Join(args, " "), text, stderr)
		}
	}
}

// words is a command line without spaces in its arguments.
func words(line string) []string { return strings.Fields(line) }
