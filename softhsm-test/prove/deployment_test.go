package prove

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"text/template"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/client"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
	"github.com/keyholt/keyholt/softhsm-test/latency"
)

// replicaCount is how many replicas there are. To the last of them the token is a slow
// device: operations are always under way in it that have passed the token's own check of
// what the key may be used for before something changes.
const (
	replicaCount = 4
	slowReplicas = 1
	slowness     = 5 * time.Millisecond
)

// deployment is all that runs in a proof.
type deployment struct {
	dir      string
	replicas []*replica
	// probeKey is one that no proof changes.
	probeKey dataKey
	parent   kms.NamespaceName
}

// dataKey is a data key as a client has it: wrapped, with what must come out.
type dataKey struct {
	wrapped []byte
	plain   string
	version kms.VersionName
}

// deploy starts the replicas on the database that dsn names. With links, each of them
// reaches it over one.
func deploy(t *testing.T, dsn string, links bool) *deployment {
	t.Helper()
	softhsmtest.Require(t)
	token := softhsmtest.New(t)
	d := &deployment{dir: t.TempDir()}
	if given.keep != "" {
		dir, err := os.MkdirTemp(given.keep, t.Name()+"-")
		if err != nil {
			t.Fatal(err)
		}
		d.dir = dir
		t.Logf("logs and audit files: %s", dir)
	}
	var err error
	if d.parent, err = kms.NewNamespaceName(kms.DefaultNamespace); err != nil {
		t.Fatal(err)
	}
	tls, principal := d.certificates(t)
	for i := range replicaCount {
		d.replicas = append(d.replicas, d.replica(t, i, token, tls, principal, dsn, links))
	}
	t.Cleanup(func() {
		if t.Failed() {
			d.showLogs(t)
		}
	})
	d.startAll(t)
	return d
}

// certificates makes those of the servers and of the client.
func (d *deployment) certificates(t *testing.T) (dir, principal string) {
	t.Helper()
	dir = filepath.Join(d.dir, "tls")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ca, err := authn.CreateLocalCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.IssueServer(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")); err != nil {
		t.Fatal(err)
	}
	principal, err = ca.IssueClient(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client-key.pem"), "prove")
	if err != nil {
		t.Fatal(err)
	}
	return dir, principal
}

// configuration is the file of a replica.
var configuration = template.Must(template.New("kmsd.yaml").Parse(`data_dir: {{printf "%q" .DataDir}}
listen: {grpc: {{printf "%q" .Address}}}
tls:
  cert_file: {{printf "%s/server.pem" .TLS | printf "%q"}}
  key_file: {{printf "%s/server-key.pem" .TLS | printf "%q"}}
  client_ca_file: {{printf "%s/ca.pem" .TLS | printf "%q"}}
administrators: [{{printf "%q" .Principal}}]
hsm: {module: {{printf "%q" .Module}}, token_label: {{printf "%q" .Label}}, pin_file: {{printf "%q" .PINFile}}}
store: {driver: postgres, dsn: {{printf "%q" .DSN}}}
replica: {name: {{printf "%q" .Name}}, lease: {{.Lease}}}
`))

func (d *deployment) replica(
	t *testing.T, index int, token *softhsmtest.Token, tls, principal, dsn string, links bool,
) *replica {
	t.Helper()
	r := &replica{name: string(rune('A' + index)), index: index, env: token.Env()}
	module := token.ModulePath()
	if index >= replicaCount-slowReplicas {
		var err error
		if module, err = latency.Build(t.Context(), d.dir); err != nil {
			t.Fatal(err)
		}
		r.env = append(r.env, latency.Config{Module: token.ModulePath(), Delay: slowness}.Env()...)
	}
	r.dir = filepath.Join(d.dir, r.name)
	if err := os.MkdirAll(filepath.Join(r.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if links {
		at, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		r.link = newLink(t, at.Host)
		at.Host = r.link.address()
		dsn = at.String()
	}
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	err = configuration.Execute(&text, map[string]any{
		"DataDir": filepath.Join(r.dir, "data"), "Address": address, "TLS": tls, "Principal": principal,
		"Module": module, "Label": token.Label(), "PINFile": token.PINFile(), "DSN": dsn,
		"Name": r.name, "Lease": lease.String(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "kmsd.yaml"), text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	r.profile = client.Profile{
		Address: address, CAFile: filepath.Join(tls, "ca.pem"),
		CertFile: filepath.Join(tls, "client.pem"), KeyFile: filepath.Join(tls, "client-key.pem"),
	}
	r.connect(t)
	return r
}

// freeAddress returns an address on which nothing listens. Its port is below those that
// systems give to outgoing connections, so that it stays free while its server is down.
func freeAddress() (string, error) {
	var err error
	for range 100 {
		port := 10000 + rand.IntN(10000)
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		var listener net.Listener
		if listener, err = net.Listen("tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", fmt.Errorf("no free port: %w", err)
}

// startAll makes the tables, starts the first replica, which makes the key that seals
// them, and then the others.
func (d *deployment) startAll(t *testing.T) {
	t.Helper()
	d.replicas[0].run(t, "migrate", "up")
	reaches := func(ctx context.Context, r *replica) error {
		_, err := r.control.ListKeys(ctx, kms.Principal{}, d.parent, kms.Page{})
		return err
	}
	for i, r := range d.replicas {
		r.start(t)
		if i == 0 {
			if _, err := r.awaitServing(t.Context(), reaches); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range d.replicas {
		if _, err := r.awaitServing(t.Context(), reaches); err != nil {
			t.Fatal(err)
		}
	}
	made := d.makeKey(t, "probe", 1)
	d.probeKey = made[0]
}

// makeKey makes a KMS key and wraps data keys under it.
func (d *deployment) makeKey(t *testing.T, id string, count int) []dataKey {
	t.Helper()
	name, err := kms.NewKeyName(d.parent, id)
	if err != nil {
		t.Fatal(err)
	}
	control := d.replicas[0].control
	if _, err := control.CreateKey(t.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	keys, err := generate(t.Context(), control, name, count)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// generate makes data keys under the primary version of a key.
func generate(ctx context.Context, api kms.API, name kms.KeyName, count int) ([]dataKey, error) {
	results, err := api.GenerateDataKeys(ctx, kms.Principal{}, &kms.GenerateDataKeysRequest{Key: name, Count: count})
	if err != nil {
		return nil, err
	}
	keys := make([]dataKey, len(results))
	for i := range results {
		if results[i].Err != nil {
			return nil, results[i].Err
		}
		keys[i] = dataKey{results[i].Wrapped, string(results[i].DataKey), results[i].Version}
	}
	return keys, nil
}

var errWrongAnswer = errors.New("another data key came out than was wrapped")

// probe unwraps the probe key.
func (d *deployment) probe(ctx context.Context, r *replica) error {
	results, err := r.control.UnwrapDataKeys(ctx, kms.Principal{}, &kms.UnwrapDataKeysRequest{
		Parent: d.parent, Items: []kms.DataKeyItem{{Wrapped: d.probeKey.wrapped}},
	})
	switch {
	case err != nil:
		return err
	case results[0].Err != nil:
		return results[0].Err
	case string(results[0].DataKey) != d.probeKey.plain:
		return errWrongAnswer
	}
	return nil
}

// awaitHealthy waits until all replicas serve.
func (d *deployment) awaitHealthy(ctx context.Context) error {
	var group errgroup.Group
	for _, r := range d.replicas {
		group.Go(func() error {
			_, err := r.awaitServing(ctx, d.probe)
			return err
		})
	}
	return group.Wait()
}

// stopAll ends the processes in order, so that all records are in the audit files.
func (d *deployment) stopAll(t *testing.T) {
	t.Helper()
	for _, r := range d.replicas {
		r.stop(t)
	}
}

// logTail is how much of each log a failed test shows, in bytes.
const logTail = 4096

func (d *deployment) showLogs(t *testing.T) {
	for _, r := range d.replicas {
		text, err := os.ReadFile(r.logFile())
		if err != nil {
			t.Logf("the log of %s: %v", r.name, err)
			continue
		}
		t.Logf("the end of the log of %s at %s:\n%s", r.name, time.Now().UTC().Format(time.TimeOnly),
			text[max(0, len(text)-logTail):])
	}
}
