package prove

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

// The databases that a lone server keeps its metadata in.
const (
	onSQLite   = "SQLite"
	onPostgres = "PostgreSQL"
)

// lone is one server with a store and a token that nobody else uses, on a unix socket.
type lone struct {
	*replica
	softhsm *softhsmtest.Token
	dsn     string // of the PostgreSQL database; empty on SQLite
	parent  kms.NamespaceName
}

// loneConfiguration is its file. The lease is short: after a kill -9 the next server's first
// change waits until that of its predecessor has expired. Destruction windows can be shorter.
var loneConfiguration = template.Must(template.New("kmsd.yaml").Parse(`data_dir: {{printf "%q" .DataDir}}
listen: {unix: {{printf "%q" .Socket}}}
hsm: {module: {{printf "%q" .Module}}, token_label: {{printf "%q" .Label}}, pin_file: {{printf "%q" .PINFile}}}
{{if .DSN}}store: {driver: postgres, dsn: {{printf "%q" .DSN}}}
replica: {lease: 1s}
{{end}}destruction: {window: 24h, min_window: 1ms}
`))

// newLone makes the server's surroundings; it does not start it.
func newLone(t *testing.T, database string) *lone {
	t.Helper()
	softhsmtest.Require(t)
	// The path of a socket is short, and that of a test's own directory may not be.
	dir, err := os.MkdirTemp("", "kh-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	l := &lone{softhsm: softhsmtest.New(t)}
	if database == onPostgres {
		l.dsn = pgtest.NewDatabase(t)
	}
	if l.parent, err = kms.NewNamespaceName(kms.DefaultNamespace); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "kmsd.sock")
	l.replica = &replica{
		name: database, dir: dir, env: l.softhsm.Env(), profile: client.Profile{Address: "unix://" + socket},
	}
	if err := os.Mkdir(l.dataDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := loneConfiguration.Execute(&text, map[string]any{
		"DataDir": l.dataDir(), "Socket": socket, "Module": l.softhsm.ModulePath(), "Label": l.softhsm.Label(),
		"PINFile": l.softhsm.PINFile(), "DSN": l.dsn,
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.configFile(), text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	l.connect(t)
	if database == onPostgres {
		l.run(t, "migrate", "up")
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.showLog(t)
		}
	})
	return l
}

func (l *lone) dataDir() string    { return filepath.Join(l.dir, "data") }
func (l *lone) configFile() string { return filepath.Join(l.dir, "kmsd.yaml") }

// begin starts the server and waits until it serves.
func (l *lone) begin(t *testing.T) {
	t.Helper()
	l.start(t)
	l.await(t)
}

func (l *lone) await(t *testing.T) {
	t.Helper()
	for _, api := range []kms.API{l.control, l.load} { // connections of their own
		_, err := l.awaitServing(t.Context(), func(ctx context.Context, _ *replica) error {
			_, err := api.ListKeys(ctx, kms.Principal{}, l.parent, kms.Page{Size: 1})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// refused starts the server, which must end by itself with the exit code, and returns the
// error that it logged last.
func (l *lone) refused(t *testing.T, code int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, server(t), "serve", "--config", l.configFile())
	command.Env = l.env
	text, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := command.ProcessState.ExitCode(); got != code {
		t.Errorf("the server ended with exit code %d, want %d:\n%s", got, code, text)
	}
	said := ""
	for line := range strings.Lines(string(text)) {
		var entry struct{ Msg, Error string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "kmsd failed" {
			said = entry.Error
		}
	}
	return said
}

// outside opens the token beside the server, as another program with the PIN could.
func (l *lone) outside(t *testing.T) *pkcs11hsm.Token {
	t.Helper()
	return l.softhsm.Open(t)
}

func (l *lone) keyName(t *testing.T, id string) kms.KeyName {
	t.Helper()
	name, err := kms.NewKeyName(l.parent, id)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// createKey makes a key of a profile.
func (l *lone) createKey(t *testing.T, id string, profile kms.Profile) kms.KeyName {
	t.Helper()
	name := l.keyName(t, id)
	if _, err := l.control.CreateKey(t.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: name, Profile: profile}); err != nil {
		t.Fatal(err)
	}
	return name
}

// patiently repeats a call while the server's lease has lapsed, as it does on a machine
// that is busy with other things.
func patiently(ctx context.Context, call func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := call()
	for errors.Is(err, kms.ErrLeaseLapsed) && pause(ctx, 20*time.Millisecond) {
		err = call()
	}
	return err
}

// unwrap returns the error with which a data key is refused; nil if the right one came out.
func (l *lone) unwrap(ctx context.Context, key dataKey) error {
	return patiently(ctx, func() error { return l.unwrapOnce(ctx, key) })
}

func (l *lone) unwrapOnce(ctx context.Context, key dataKey) error {
	results, err := l.control.UnwrapDataKeys(ctx, kms.Principal{}, &kms.UnwrapDataKeysRequest{
		Parent: l.parent, Items: []kms.DataKeyItem{{Wrapped: key.wrapped}},
	})
	switch {
	case err != nil:
		return err
	case results[0].Err != nil:
		return results[0].Err
	case string(results[0].DataKey) != key.plain:
		return errWrongAnswer
	}
	return nil
}

// version reads a key version.
func (l *lone) version(t *testing.T, name kms.VersionName) *kms.VersionInfo {
	t.Helper()
	v, err := l.control.GetKeyVersion(t.Context(), kms.Principal{}, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// findings is what the server has found out, a line each; severity and name come first.
func (l *lone) findings(t *testing.T) []string {
	t.Helper()
	findings, err := l.control.Diagnose(t.Context(), kms.Principal{})
	if err != nil {
		t.Fatal(err)
	}
	lines := make([]string, len(findings))
	for i, f := range findings {
		lines[i] = fmt.Sprintf("%v %s %s: %s", f.Severity, f.Area, f.Check, f.Detail)
	}
	return lines
}

func (l *lone) showLog(t *testing.T) {
	text, err := os.ReadFile(l.logFile())
	if err != nil {
		t.Logf("the log: %v", err)
		return
	}
	t.Logf("the end of the log at %s:\n%s", time.Now().UTC().Format(time.TimeOnly), text[max(0, len(text)-logTail):])
}
