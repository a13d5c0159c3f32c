package loadgen

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleepBriefly blocks the thread: the kernel wakes it within some 50 µs. That a signal
// may wake it early only moves a request by less.
func sleepBriefly(d time.Duration) {
	t := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&t, nil) // EINTR: see above
}
