package client_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// cutting listens for connections to a server, each of which breaks once so many bytes have
// gone one way or the other.
func cutting(t *testing.T, to client.Profile, bytes int64) (through client.Profile, connections *atomic.Int32) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	must(t, err)
	connections = new(atomic.Int32)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			far, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "unix", strings.TrimPrefix(to.Address, "unix://"))
			if err != nil {
				_ = near.Close()
				continue
			}
			cut := func() { _, _ = near.Close(), far.Close() }
			running.Go(func() { defer cut(); _, _ = io.CopyN(far, near, bytes) })
			running.Go(func() { defer cut(); _, _ = io.CopyN(near, far, bytes) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return client.Profile{Address: "unix://" + path}, connections
}

// Connections that break under shared RPCs: each call gets its own signature, or the error
// of a service that cannot be reached, and calls go on afterwards.
func TestSigningThroughBreakingConnections(t *testing.T) {
	s := startServer(t)
	direct := dial(t, s.unix)
	key := makeKey(t, direct, kms.AlgorithmEd25519)
	// The client is closed before the listener: what it still has open would be waited for.
	through, connections := cutting(t, s.unix, 100<<10)
	c := dial(t, through)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	signer, err := c.Signer(ctx, key)
	must(t, err)
	var running sync.WaitGroup
	var mu sync.Mutex
	good := 0
	for i := range 32 {
		running.Go(func() {
			for round := range 20 {
				message := fmt.Appendf(make([]byte, 2000), "%d of %d", round, i)
				signature, err := signer.WithContext(ctx).Sign(nil, message, crypto.Hash(0))
				switch {
				case err == nil && !verifies(signer.Public(), signer.Algorithm(), message, signature):
					t.Errorf("the signature is not of %q", message)
				case err != nil && status.Code(err) != codes.Unavailable || errors.Is(err, context.DeadlineExceeded):
					t.Errorf("got %v", err)
				}
				if err == nil {
					mu.Lock()
					good++
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	if n := connections.Load(); good == 0 || n < 2 {
		t.Errorf("%d signatures by %d connections", good, n)
	}
}
