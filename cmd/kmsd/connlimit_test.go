package main

import (
	"errors"
	"net"
	"testing"
)

// acceptOne accepts in the background and hands over what comes.
func acceptOne(listener net.Listener) <-chan error {
	accepted := make(chan error, 1)
	go func() {
		_, err := listener.Accept()
		accepted <- err
	}()
	return accepted
}

func TestLimitedListener(t *testing.T) {
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := limitConnections(inner, 2)
	dial := func() {
		t.Helper()
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	var open []net.Conn
	for range 2 {
		dial()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	dial()
	third := acceptOne(listener)
	select {
	case err := <-third:
		t.Fatalf("a third connection was accepted: %v", err)
	default:
	}
	// Closing one connection, however often, makes room for one.
	for range 2 {
		_ = open[0].Close()
	}
	if err := <-third; err != nil {
		t.Fatal(err)
	}
	dial()
	fourth := acceptOne(listener)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-fourth; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept of a closed listener: %v", err)
	}
	if l, ok := listener.(*limitedListener); !ok || len(l.slots) != 2 {
		t.Errorf("%T has taken %d slots, want 2", listener, len(l.slots))
	}
}
