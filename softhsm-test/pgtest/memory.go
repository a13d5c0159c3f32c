package pgtest

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseMemory removes the System V shared memory segment of a server that was killed.
// It is small and only a sign that the data directory is in use, but systems allow few of
// them (32 on macOS), and only the next start on the same directory would remove it.
func releaseMemory(data string) error {
	content, err := os.ReadFile(pidFile(data))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it ended in order
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) <= lineMemory {
		return nil // it ended before it had one
	}
	fields := strings.Fields(lines[lineMemory])
	if len(fields) != 2 {
		return nil
	}
	id, err := strconv.Atoi(fields[1])
	if err != nil {
		return err
	}
	if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil && !errors.Is(err, unix.EINVAL) {
		return err // EINVAL: there is none by that id any more
	}
	return nil
}
