package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// app is one run of the program: its streams and environment, and what the global
// flags say.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	terminal       func(stream any) bool // whether a person sits at it

	settings settings
	output   outputFormat
	timeout  time.Duration
	yes      bool

	command string          // that has begun, as "key create"
	args    []string        // of it
	running bool            // a command has begun: from here on an error is a failure, not wrong usage
	profile *client.Profile // that was dialled
}

// connection is what commands talk to the service with.
type connection struct {
	*client.Client
	api       kms.API
	namespace kms.NamespaceName // for names that do not say one
}

// close ends the connection. A connection whose calls are all done has nothing left to
// lose.
func (c *connection) close() { _ = c.Close() }

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a command line or configuration that cannot be carried out; nothing
// was sent to the service.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exit reports the error of a command and returns the exit code.
func (a *app) exit(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	var usage *usageError
	if !a.running || errors.As(err, &usage) {
		a.sayf("kmsctl: %s", err)
		a.sayf("See %q.", cmd.CommandPath()+" --help")
		return exitUsage
	}
	a.report(err)
	return exitFailure
}

func (a *app) addGlobalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	a.settings.addFlags(flags)
	flags.VarP(&a.output, "output", "o", "table, wide, json or yaml")
	flags.DurationVar(&a.timeout, "timeout", client.DefaultTimeout, "how long each call to the service may take")
	flags.BoolVarP(&a.yes, "yes", "y", false, "do not ask before a change that does harm")
}

// between is a command's number of arguments.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		got := fmt.Sprintf("%d arguments", len(args))
		switch len(args) {
		case 0:
			got = "no argument"
		case 1:
			got = "one argument"
		}
		return usagef("got %s, want: %s", got, strings.TrimSuffix(cmd.UseLine(), " [flags]"))
	}
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs, // else cobra takes a command that does not exist for an argument
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := make([]string, len(commands))
			for i, c := range commands {
				names[i] = c.Name()
			}
			return usagef("%s what? Its commands are %s", cmd.CommandPath(), strings.Join(names, ", "))
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// connected makes the function of a command that talks to the service.
func (a *app) connected(f func(ctx context.Context, conn *connection, args []string) error,
) func(*cobra.Command, []string) error {
	return a.local(func(ctx context.Context, args []string) error {
		conn, err := a.connect(ctx)
		if err != nil {
			return err
		}
		defer conn.close()
		return f(ctx, conn, args)
	})
}

// local makes the function of a command that does not need the service.
func (a *app) local(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.running, a.args = true, args
		a.command = strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
		return f(cmd.Context(), args)
	}
}

// connect makes the client. No connection is attempted before the first call.
func (a *app) connect(ctx context.Context, opts ...client.Option) (*connection, error) {
	if a.timeout <= 0 {
		return nil, usagef("--timeout %v: want a positive duration", a.timeout)
	}
	profile, err := a.settings.profile(a.getenv)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, profile, append(opts, client.WithTimeout(a.timeout))...)
	if errors.Is(err, client.ErrProfile) {
		return nil, usagef("%v", err)
	}
	if err != nil {
		return nil, err
	}
	a.profile = &profile
	return &connection{Client: c, api: c.API(), namespace: profile.DefaultNamespace()}, nil
}

// sayf writes one line for a person to standard error. If even that fails, there is
// nobody to tell.
func (a *app) sayf(format string, args ...any) {
	_, _ = fmt.Fprintln(a.stderr, printable(fmt.Sprintf(format, args...)))
}
