package bench

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/keyholt/keyholt/bench/echo"
)

// echoArgument makes the test binary the echo server.
const echoArgument = "echo"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == echoArgument {
		if err := runEcho(os.Args[2:]); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	runTests(m)
}

// kmsd is where buildKmsd puts the program.
var kmsd string

// runTests leaves the exit code to package testing.
func runTests(m *testing.M) {
	dir, err := os.MkdirTemp("", "kmsbench-test-")
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is in the system's directory for that
	kmsd = filepath.Join(dir, "kmsd")
	m.Run()
}

func runEcho(args []string) error {
	c := echo.Config{Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil))}
	flags := flag.NewFlagSet(echoArgument, flag.ContinueOnError)
	flags.StringVar(&c.Listen, "listen", "", "")
	flags.StringVar(&c.TLS.CertFile, "cert-file", "", "")
	flags.StringVar(&c.TLS.KeyFile, "key-file", "", "")
	flags.StringVar(&c.TLS.ClientCAFile, "client-ca-file", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return echo.Serve(ctx, c)
}
