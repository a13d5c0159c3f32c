package authn

import (
	"fmt"
	"net"
	"strconv"

	"google.golang.org/grpc/credentials"

	"github.com/keyholt/keyholt/kms"
)

// peerCredentials is what the kernel says of the process at the other end of a unix
// socket, as it was when that process connected.
type peerCredentials struct {
	uid uint32
	pid int32 // 0: the kernel does not say
}

// unixIdentity makes a principal "unix:UID" of the peer.
func unixIdentity(conn *net.UnixConn) (*AuthInfo, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	var peer peerCredentials
	var failed error
	err = raw.Control(func(fd uintptr) { peer, failed = readPeerCredentials(int(fd)) })
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("%w: reading the credentials of the peer: %w", ErrHandshake, err)
	}
	return &AuthInfo{
		// The bytes do not leave the machine's kernel.
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		Principal: kms.Principal{
			Name:    "unix:" + strconv.FormatUint(uint64(peer.uid), 10),
			Method:  kms.MethodUnix,
			UID:     peer.uid,
			Address: "unix",
		},
		PID: peer.pid,
	}, nil
}
