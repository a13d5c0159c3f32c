package loadgen

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm waits on a timer of the kernel, which is some 10 µs late where a Go timer is up
// to a millisecond. It waits by the runtime's poller: a thread that slept instead would
// hold the scheduler's place of the goroutines that make requests.
//
// It is used by one goroutine.
type alarm struct {
	fd   int
	file *os.File // of fd; its Fd would make it a blocking one
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &alarm{fd: fd, file: os.NewFile(uintptr(fd), "timer")}, nil
}

// until waits until a time, or until ctx ends.
func (a *alarm) until(ctx context.Context, t time.Time) {
	left := time.Until(t)
	if left <= 0 || ctx.Err() != nil {
		return
	}
	setting := unix.ItimerSpec{Value: unix.NsecToTimespec(left.Nanoseconds())}
	if err := unix.TimerfdSettime(a.fd, 0, &setting, nil); err != nil {
		timerUntil(ctx, t)
		return
	}
	defer context.AfterFunc(ctx, func() { _ = a.file.SetReadDeadline(time.Unix(0, 1)) })()
	var expirations [8]byte
	if _, err := a.file.Read(expirations[:]); err != nil {
		timerUntil(ctx, t) // returns at once if ctx has ended
	}
}

func (a *alarm) close() error { return a.file.Close() }
