package authn

import "golang.org/x/sys/unix"

// readPeerCredentials asks with SO_PEERCRED; see unix(7).
func readPeerCredentials(fd int) (peerCredentials, error) {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return peerCredentials{}, err
	}
	return peerCredentials{uid: c.Uid, pid: c.Pid}, nil
}
