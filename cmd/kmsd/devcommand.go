package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func devCommand() *cobra.Command {
	var dir, listen, metrics, acceptRollback string
	command := &cobra.Command{
		Use:   "dev",
		Short: "Run for development, without any configuration",
		Long: "Runs a server for development: a SoftHSM2 token, a store, certificates and an audit log of its own, all in\n" +
			"one directory. What is there already is used again. Standard output says how to talk to the server;\n" +
			"the log goes to standard error.\n\n" +
			"Whoever can read the directory has the token and its PIN: this is not for production.",
		Args:   noArguments,
		PreRun: tuneAllocator,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkAddress(listen); err != nil {
				return usageError("--listen: %v", err)
			}
			if metrics != "" {
				if err := checkAddress(metrics); err != nil {
					return usageError("--metrics: %v", err)
				}
			}
			dir, err := devDirectory(dir)
			if err != nil {
				return err
			}
			d := &devServer{dir: dir, listen: listen, metrics: metrics, out: cmd.OutOrStdout()}
			c, err := d.config()
			if err != nil {
				return err
			}
			return runUntilSignal(cmd.Context(), c, hooks{prepare: d.prepare, ready: d.ready, acceptRollback: acceptRollback})
		},
	}
	command.Flags().StringVar(&dir, "data-dir", "", "`directory` of everything (default: keyholt-dev in the user's data directory)")
	command.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`host:port` for TLS; port 0 is a free one")
	command.Flags().StringVar(&metrics, "metrics", "", "`host:port` for metrics over plain HTTP (default: none)")
	acceptRollbackFlag(command, &acceptRollback)
	return command
}

// devMark is the file by which kmsd dev knows a directory as its own.
const devMark = "kmsd-dev.txt"

// devDirectory returns the absolute path of the directory, the default one if dir is
// empty. One that holds something else is refused: nothing of it is touched.
func devDirectory(dir string) (string, error) {
	if dir == "" {
		data := os.Getenv("XDG_DATA_HOME")
		if !filepath.IsAbs(data) { // as the specification of XDG_DATA_HOME demands
			home, err := os.UserHomeDir()
			if err != nil {
				return "", usageError("there is no home directory; say --data-dir: %v", err)
			}
			data = filepath.Join(home, ".local", "share")
		}
		dir = filepath.Join(data, "keyholt-dev")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", as(errStorage, err)
	}
	if strings.ContainsAny(dir, "#\n\r") {
		return "", usageError("SoftHSM2 cannot use a directory with a # or a line break in its name: %q", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", as(errStorage, err)
	}
	for _, entry := range entries {
		if entry.Name() == devMark {
			return dir, nil
		}
	}
	if len(entries) == 0 || len(entries) == 1 && entries[0].Name() == lockFile { // locked, and nothing made yet
		return dir, nil
	}
	return "", usageError("the directory %s is not empty, and kmsd dev did not make what is in it; choose another", dir)
}

// devSocket returns the path of the unix socket: in the directory, or, if that path is
// too long for a socket, a short one that belongs to the directory.
func devSocket(dir string) (string, error) {
	path := filepath.Join(dir, "kmsd.sock")
	if len(path) <= maxSocketPath {
		return path, nil
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(base) {
		base = os.TempDir()
	}
	path = filepath.Join(base, shortName(dir), "kmsd.sock")
	if len(path) > maxSocketPath {
		return "", usageError("the directory's name is too long: its socket %s has %d bytes, the system allows %d",
			path, len(path), maxSocketPath)
	}
	return path, nil
}

// clientAddress is the address that a client on this machine dials for a listener.
func clientAddress(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
