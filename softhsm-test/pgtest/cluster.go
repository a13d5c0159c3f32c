package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Cluster is a PostgreSQL server with its data. The methods that take a test fail it if
// they fail, and must be called from its goroutine; the others may be called from any.
type Cluster struct {
	ws      *workspace
	home    string // holds the data (d), the socket (s) and the log
	port    int
	running *postmaster // nil while it is stopped
}

// Option is a choice for a new cluster.
type Option func(*strings.Builder)

// Fast makes a cluster that never syncs to the disk. It survives a crash of the server,
// not one of the machine; what a commit costs in it says nothing.
func Fast() Option {
	return func(conf *strings.Builder) {
		conf.WriteString("fsync = off\nfull_page_writes = off\n")
	}
}

// Setting sets a parameter of the server, as a line of postgresql.conf would.
func Setting(name, value string) Option {
	return func(conf *strings.Builder) {
		fmt.Fprintf(conf, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
	}
}

// Shutdown is how a server is stopped. Both ways end the connections at once.
type Shutdown syscall.Signal

const (
	// FastShutdown rolls back open transactions and leaves nothing to recover.
	FastShutdown = Shutdown(syscall.SIGINT)
	// ImmediateShutdown stops without a checkpoint: the next start recovers.
	ImmediateShutdown = Shutdown(syscall.SIGQUIT)
)

// Start makes and starts a cluster, which is gone when the test has ended.
func Start(tb testing.TB, opts ...Option) *Cluster {
	tb.Helper()
	ws, err := theWorkspace()
	if err != nil {
		tb.Fatal(err)
	}
	c, err := newCluster(ws, opts)
	if c != nil {
		tb.Cleanup(func() { c.end(tb) })
	}
	if err != nil {
		tb.Fatalf("starting PostgreSQL: %v", err)
	}
	return c
}

// newCluster makes a cluster from the template and starts it. There may be one to end
// beside an error.
func newCluster(ws *workspace, opts []Option) (*Cluster, error) {
	home, err := ws.newHome()
	if err != nil {
		return nil, err
	}
	c := &Cluster{ws: ws, home: home}
	if err := ws.account.run(home, "cp", "-a", ws.template(), c.data()); err != nil {
		return c, err
	}
	var conf strings.Builder
	for _, opt := range opts {
		opt(&conf)
	}
	if err := c.configure(conf.String()); err != nil {
		return c, err
	}
	if err := c.firstStart(); err != nil {
		return c, err
	}
	return c, c.createRole()
}

func (c *Cluster) data() string    { return filepath.Join(c.home, "d") }
func (c *Cluster) logFile() string { return filepath.Join(c.home, "log") }

// SocketDir is the directory of the server's unix socket: the host parameter of a DSN
// that does not go by TCP.
func (c *Cluster) SocketDir() string { return filepath.Join(c.home, "s") }

// Port is the port on 127.0.0.1, the same after every start.
func (c *Cluster) Port() int { return c.port }

// configure adds to the file that the server reads last, so that on a copy of another
// cluster our lines win.
func (c *Cluster) configure(lines string) error {
	file, err := os.OpenFile(filepath.Join(c.data(), "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(lines)
	return errors.Join(err, file.Close())
}

// place is the configuration of where a cluster is. Dynamic shared memory is in files of
// the data directory, so that a killed server leaves none in the machine's /dev/shm.
const place = `listen_addresses = '127.0.0.1'
port = %d
unix_socket_directories = '%s'
cluster_name = '%s'
dynamic_shared_memory_type = mmap
`

// firstStart starts the server on a free port; on another, if that was taken meanwhile.
func (c *Cluster) firstStart() error {
	var err error
	for range 10 {
		if c.port, err = freePort(); err != nil {
			return err
		}
		if err = c.configure(fmt.Sprintf(place, c.port, c.SocketDir(), c.name())); err != nil {
			return err
		}
		if err = c.start(); !errors.Is(err, errExited) || !strings.Contains(c.log(), "Address already in use") {
			return err
		}
	}
	return err
}

// name is the cluster's name to other servers.
func (c *Cluster) name() string { return "keyholt_" + strconv.Itoa(c.port) }

// The ports that clusters listen on are below those that systems choose themselves for
// outgoing connections (from 32768 on Linux, from 49152 elsewhere): otherwise, while a
// server is stopped, a client that tries to reach it could be given its port, and connect
// to itself.
const firstPort, lastPort = 20000, 32767

// freePort returns a port on which nothing listens.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		var listener net.Listener
		if listener, err = net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port))); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("no free port: %w", err)
}

func (c *Cluster) start() error {
	if c.running != nil {
		return errors.New("the server runs already")
	}
	p, err := launch(c.ws, c.data(), c.logFile())
	if err != nil {
		return err
	}
	if err := p.awaitReady(c.data()); err != nil {
		return fmt.Errorf("%w; its log:\n%s", err, c.log())
	}
	c.running = p
	return nil
}

func (c *Cluster) stop(signal syscall.Signal) error {
	if c.running == nil {
		return errors.New("the server does not run")
	}
	p := c.running
	c.running = nil
	return p.stop(signal)
}

// Start starts the server again, on the same port, and returns when it accepts
// connections.
func (c *Cluster) Start(tb testing.TB) {
	tb.Helper()
	if err := c.start(); err != nil {
		tb.Fatalf("starting PostgreSQL again: %v", err)
	}
}

// Stop stops the server and returns when all of its processes have ended.
func (c *Cluster) Stop(tb testing.TB, how Shutdown) {
	tb.Helper()
	if err := c.stop(syscall.Signal(how)); err != nil {
		tb.Fatalf("stopping PostgreSQL: %v", err)
	}
}

// Restart is Stop and Start.
func (c *Cluster) Restart(tb testing.TB, how Shutdown) {
	tb.Helper()
	c.Stop(tb, how)
	c.Start(tb)
}

// Kill kills the first process of the server (SIGKILL) and returns when the others have
// noticed and ended too. Start recovers what was committed.
func (c *Cluster) Kill(tb testing.TB) {
	tb.Helper()
	if err := c.stop(syscall.SIGKILL); err != nil {
		tb.Fatalf("killing PostgreSQL: %v", err)
	}
}

// logTail is how much of the log is shown where something failed, in bytes.
const logTail = 4096

// log returns the end of the server's log.
func (c *Cluster) log() string {
	content, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	content = bytes.TrimSpace(content)
	return string(content[max(0, len(content)-logTail):])
}

// end stops the server if it runs, and removes what there is of it.
func (c *Cluster) end(tb testing.TB) {
	if tb.Failed() {
		tb.Logf("PostgreSQL on port %d at %s:\n%s", c.port, time.Now().Format(time.TimeOnly), c.log())
	}
	if c.running != nil {
		if err := c.stop(syscall.SIGQUIT); err != nil {
			tb.Errorf("stopping PostgreSQL: %v", err)
		}
	}
	if err := errors.Join(releaseMemory(c.data()), os.RemoveAll(c.home)); err != nil {
		tb.Errorf("removing a PostgreSQL cluster: %v", err)
	}
}
