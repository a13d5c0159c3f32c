package authn

import "golang.org/x/sys/unix"

// readPeerCredentials asks with LOCAL_PEERCRED, and LOCAL_PEERPID; see unix(4).
func readPeerCredentials(fd int) (peerCredentials, error) {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return peerCredentials{}, err
	}
	pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	if err != nil {
		return peerCredentials{}, err
	}
	return peerCredentials{uid: c.Uid, pid: int32(pid)}, nil
}
