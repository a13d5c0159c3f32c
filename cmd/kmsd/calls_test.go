package main

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// profile reads a client profile; a TCP address "@NAME" stands for where the process
// that start calls NAME listens.
func profile(ts *testscript.TestScript, name string) client.Profile {
	p, err := client.LoadProfile(ts.MkAbs(name))
	ts.Check(err)
	if process, ok := strings.CutPrefix(p.Address, "@"); ok {
		p.Address = processNamed(ts, process).address(ts, "tcp")
	}
	return p
}

func dial(ctx context.Context, ts *testscript.TestScript, name string) *client.Client {
	c, err := client.Dial(ctx, profile(ts, name))
	ts.Check(err)
	return c
}

// report writes the outcome of a request: OK, or code and reason and then the message.
func report(ts *testscript.TestScript, answer string, err error) {
	if err == nil {
		_, _ = fmt.Fprintln(ts.Stdout(), strings.TrimSpace("OK "+answer))
		return
	}
	_, _ = fmt.Fprintf(ts.Stdout(), "%v %s\n%v\n", status.Code(err), wire.Reason(err), err)
}

func cmdCall(ts *testscript.TestScript, args []string) {
	need(ts, args, "PROFILE", "METHOD")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := dial(ctx, ts, args[0])
	defer c.Close()
	var arg string
	if len(args) > 2 {
		arg = args[2]
	}
	switch args[1] {
	case "whoami":
		answer, err := c.System().WhoAmI(ctx, &kmsv1.WhoAmIRequest{})
		report(ts, answer.GetPrincipal(), wire.FromStatus(err))
	case "health":
		answer, err := healthv1.NewHealthClient(c.Conn()).Check(ctx, &healthv1.HealthCheckRequest{Service: arg})
		report(ts, answer.GetStatus().String(), err)
	case "random":
		random, err := c.API().GenerateRandom(ctx, kms.Principal{}, 16)
		report(ts, strconv.Itoa(len(random)), err)
	case "namespace":
		name, err := kms.NewNamespaceName(arg)
		ts.Check(err)
		_, err = c.API().CreateNamespace(ctx, kms.Principal{}, name)
		report(ts, "", err)
	case "create":
		_, err := c.API().CreateKey(ctx, kms.Principal{}, &kms.CreateKeyRequest{Name: keyName(ts, arg)})
		report(ts, "", err)
	case "encrypt":
		_, err := c.API().Encrypt(ctx, kms.Principal{}, &kms.EncryptRequest{Key: keyName(ts, arg), Plaintext: kms.Secret("data")})
		report(ts, "", err)
	default:
		ts.Fatalf("call cannot make %s", args[1])
	}
}

func keyName(ts *testscript.TestScript, id string) kms.KeyName {
	namespace, err := kms.NewNamespaceName(kms.DefaultNamespace)
	ts.Check(err)
	name, err := kms.NewKeyName(namespace, id)
	ts.Check(err)
	return name
}

// heldKey is the key of the requests that are under way, in the values of a script.
type heldKey struct{}

// heldRequest is a request whose message the server does not have yet.
type heldRequest struct {
	client *client.Client
	stream grpc.ClientStream
}

func cmdBegin(ts *testscript.TestScript, args []string) {
	need(ts, args, "NAME", "PROFILE")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	ts.Defer(cancel)
	c := dial(ctx, ts, args[1])
	ts.Defer(func() { _ = c.Close() })
	stream, err := c.Conn().NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, kmsv1.CryptoService_GenerateRandom_FullMethodName)
	ts.Check(err)
	// On one connection the server reads in order: when it answers this, it has the other.
	_, err = healthv1.NewHealthClient(c.Conn()).Check(ctx, &healthv1.HealthCheckRequest{})
	ts.Check(err)
	held(ts)[args[0]] = &heldRequest{c, stream}
}

func cmdFinish(ts *testscript.TestScript, args []string) {
	need(ts, args, "NAME")
	request := held(ts)[args[0]]
	if request == nil {
		ts.Fatalf("nothing was begun as %s", args[0])
	}
	answer := new(kmsv1.GenerateRandomResponse)
	err := request.stream.SendMsg(&kmsv1.GenerateRandomRequest{Size: 16})
	if err == nil {
		err = request.stream.CloseSend()
	}
	if receiveErr := request.stream.RecvMsg(answer); receiveErr != nil { // tells more than SendMsg's error
		err = receiveErr
	}
	report(ts, strconv.Itoa(len(answer.GetData())), wire.FromStatus(err))
}

func held(ts *testscript.TestScript) map[string]*heldRequest {
	requests, _ := ts.Value(heldKey{}).(map[string]*heldRequest)
	return requests
}

func cmdOverload(ts *testscript.TestScript, args []string) {
	need(ts, args, "PROFILE", "FILE")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[1])+"?_txlock=immediate")
	ts.Check(err)
	defer db.Close()
	lock, err := db.BeginTx(ctx, nil)
	ts.Check(err)

	c := dial(ctx, ts, args[0])
	defer c.Close()
	name, err := kms.NewNamespaceName("shop")
	ts.Check(err)
	created := make(chan error, 1)
	go func() {
		err := kms.ErrOverloaded
		for errors.Is(err, kms.ErrOverloaded) { // it may be this one that is refused
			_, err = c.API().CreateNamespace(ctx, kms.Principal{}, name)
		}
		created <- err
	}()
	var refused error
	err = poll(ctx, func() bool { // until the other one is under way
		_, refused = c.API().GenerateRandom(ctx, kms.Principal{}, 16)
		return refused != nil
	}, nil)
	ts.Check(err)
	ts.Check(lock.Rollback())
	ts.Check(<-created)
	report(ts, "", refused)
}

func cmdHandshake(ts *testscript.TestScript, args []string) {
	need(ts, args, "PROFILE", "VERSION")
	p := profile(ts, args[0])
	config, err := p.TLSConfig()
	ts.Check(err)
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	config.MinVersion, config.MaxVersion = tls.VersionTLS12, versions[args[1]]
	config.NextProtos = []string{"h2"}
	if len(args) > 2 && args[2] == "anonymous" {
		config.GetClientCertificate = nil
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: config}
	connection, err := dialer.DialContext(context.Background(), "tcp", p.Address)
	if err == nil {
		defer connection.Close()
		// In TLS 1.3 a server refuses the client's certificate after the client is done.
		ts.Check(connection.SetDeadline(time.Now().Add(patience)))
		_, err = connection.Read(make([]byte, 1))
	}
	if err != nil {
		_, _ = fmt.Fprintln(ts.Stdout(), err)
		return
	}
	_, _ = fmt.Fprintln(ts.Stdout(), "OK")
}

func cmdCertificates(ts *testscript.TestScript, args []string) {
	need(ts, args, "DIR", "PROCESS")
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ca, err := authn.CreateLocalCA(dir)
	ts.Check(err)
	ts.Check(ca.IssueServer(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")))
	for _, name := range []string{"ops", "other"} {
		_, err := ca.IssueClient(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"), name)
		ts.Check(err)
		profile := fmt.Sprintf("address: \"@%s\"\nca_file: ca.pem\ncert_file: %s.pem\nkey_file: %[2]s-key.pem\n", args[1], name)
		ts.Check(os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(profile), 0o600))
	}
}

// notifyKey is the key of the notification socket, in the values of a script.
type notifyKey struct{}

func cmdSystemd(ts *testscript.TestScript, _ []string) {
	path := ts.MkAbs("notify.sock")
	connection, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	ts.Defer(func() { _ = connection.Close() })
	ts.Setenv("NOTIFY_SOCKET", path)
	sockets, _ := ts.Value(notifyKey{}).(map[string]*net.UnixConn)
	sockets["systemd"] = connection
}

func cmdNotified(ts *testscript.TestScript, args []string) {
	need(ts, args, "STATE")
	sockets, _ := ts.Value(notifyKey{}).(map[string]*net.UnixConn)
	connection := sockets["systemd"]
	ts.Check(connection.SetReadDeadline(time.Now().Add(patience)))
	buffer := make([]byte, 256)
	n, err := connection.Read(buffer)
	ts.Check(err)
	if got := string(buffer[:n]); got != args[0] {
		ts.Fatalf("notified %q, want %q", got, args[0])
	}
}
