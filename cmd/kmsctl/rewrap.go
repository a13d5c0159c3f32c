package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
)

// rewrapFlags are the flags of kmsctl rewrap.
type rewrapFlags struct {
	key     string
	in, out string
	context []string
	force   bool
	restart bool
	count   bool
}

func newRewrap(a *app) *cobra.Command {
	var f rewrapFlags
	cmd := &cobra.Command{
		Use:   "rewrap [PATH...]",
		Short: "Put ciphertexts and encrypted files under the primary version of their key",
		Long: `Put ciphertexts under the primary version of their key, many at once. No plaintext
leaves the service.

Without PATH the input (--in, or standard input) has one ciphertext in each line, as
base64: wrapped data keys or encrypted data, also mixed. The lines come out in the same
order, each under the primary version. A line that fails, or that is under the primary
version already, comes out as it went in; so the output can be the input of another run.

With PATHs they are files that "kmsctl encrypt" has made, and directories, which are
searched for such files to any depth. Of each file only the header is replaced. Other
files are left alone.

What was interrupted goes on where it stopped when the command is repeated: with --out
FILE from the last second of what stands in FILE.partial; with PATHs, files that are done
are recognised.

At the end it says how many are under which version. The exit code is 1 if one failed, or
if one is under an older version still. --count says only how many are under which
version, and changes nothing.`,
		Example: `  kmsctl rewrap --key orders --in keys.txt --out keys.new
  kmsctl rewrap --context host=web1 /srv/backups
  kmsctl rewrap --count /srv/backups`,
		Args: cobra.ArbitraryArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "the key that must have made them; without it, any key of the namespace")
	flags.StringVar(&f.in, "in", "", "input file of lines; default or -: standard input")
	flags.StringVar(&f.out, "out", "", "output file of lines, which appears when it is complete; default or -: standard output")
	flags.StringArrayVar(&f.context, "context", nil, "encryption context, as KEY=VALUE; may be repeated")
	flags.BoolVar(&f.force, "force", false, "replace the output file if it exists")
	flags.BoolVar(&f.restart, "restart", false, "begin anew instead of going on where an earlier run was interrupted")
	flags.BoolVar(&f.count, "count", false, "only count how many are under which version")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		r, err := newRewrapper(a, conn, &f)
		if err != nil {
			return err
		}
		if len(args) > 0 {
			if f.in != "" || f.out != "" || f.force || f.restart {
				return usagef("--in, --out, --force and --restart are for lines, not for files")
			}
			return r.files(ctx, args)
		}
		return r.lines(ctx)
	})
	return cmd
}

func newRewrapper(a *app, conn *connection, f *rewrapFlags) (*rewrapper, error) {
	r := &rewrapper{
		a: a, api: conn.api, flags: f, parent: conn.namespace, copyLimit: copyLimit,
		current: make(map[kms.KeyName]version), names: make(map[uid]kms.VersionName),
	}
	if f.key != "" {
		var err error
		if r.key, err = parseKey(f.key, conn.namespace); err != nil {
			return nil, err
		}
		r.parent = r.key.Namespace()
	}
	var err error
	r.context, err = parsePairs("context", f.context)
	return r, err
}

// finish resolves which versions the tally is about, shows it, and says whether all is
// well: nothing has failed, and nothing is under an older version.
func (r *rewrapper) finish(ctx context.Context, t *tally, toStdout bool) error {
	if err := r.resolve(ctx, t); err != nil {
		if r.flags.count {
			return err
		}
		r.a.sayf("kmsctl: the versions of the keys cannot be read: %v", err) // what the results told has to do
	}
	if err := t.show(r.a, toStdout); err != nil {
		return err
	}
	if !r.flags.count {
		r.a.sayf("kmsctl: %d rewrapped, %d under the primary version before, %d failed", t.rewrapped, t.unchanged, t.failed)
	}
	if t.other > 0 {
		r.a.sayf("kmsctl: other files, left alone: %d", t.other)
	}
	if r.flags.count && t.failed == 0 {
		return nil
	}
	return t.verdict(r.flags.count)
}

// stopped is the error of a run that ended before it was through.
func (r *rewrapper) stopped(t *tally, err error) error {
	next := "repeat the command: it goes on where it stopped."
	if errors.Is(err, errNoResume) {
		next = "repeat the command; with --out FILE an interrupted run could go on where it stopped."
	}
	r.a.sayf("kmsctl: stopped: %d rewrapped, %d under the primary version before, %d failed", t.rewrapped, t.unchanged, t.failed)
	x := r.a.explain(err)
	if x.next != "" {
		next = x.next + " Then " + next
	}
	return &advisedError{err, next}
}
