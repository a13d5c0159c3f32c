//go:build !linux

package keystore

import "syscall"

// limitUnacknowledged has nothing to set here: the system decides when unacknowledged data
// breaks a connection.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }
