package pgtest

import (
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// guardScript stops the servers that still run when its standard input ends, which it
// does when this process has ended in whatever way, and removes the directory. A server
// that ends removes its pid file: its process id is no sign, because a dead process that
// nobody reaps keeps it. The guard waits at most 10 seconds. A pid file that is left is one
// of a server that was killed, whose shared memory goes as in releaseMemory.
const guardScript = `
running=
while read -r event pid; do
  others=
  for each in $running; do [ "$each" = "$pid" ] || others="$others $each"; done
  running=$others
  [ "$event" != started ] || running="$running $pid"
done
for pid in $running; do kill -QUIT "$pid"; kill -CONT "$pid"; done
tries=100
for pid in $running; do
  while [ $tries -gt 0 ] && kill -0 "$pid" && grep -qsx "$pid" "$1"/c*/d/postmaster.pid; do
    sleep 0.1
    tries=$((tries - 1))
  done
done
for file in "$1"/c*/d/postmaster.pid; do
  [ ! -e "$file" ] || ipcrm -m "$(sed -n '7s/.* //p' "$file")"
done
rm -rf -- "$1"
`

// guard tells the guard process which servers run. Its methods may be called
// concurrently: a line is one write to a pipe.
type guard struct {
	events io.Writer
}

// startGuard starts the guard of a directory. Nobody waits for it: it ends after this
// process.
func startGuard(dir string) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, "keyholt-pgtest-guard", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	events, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &guard{events: events}, cmd.Process.Release()
}

// started and stopped tell of a postmaster by its process id.
func (g *guard) started(pid int) error { return g.tell("started", pid) }
func (g *guard) stopped(pid int) error { return g.tell("stopped", pid) }

func (g *guard) tell(event string, pid int) error {
	if _, err := fmt.Fprintf(g.events, "%s %d\n", event, pid); err != nil {
		return fmt.Errorf("telling the guard of process %d: %w", pid, err)
	}
	return nil
}
