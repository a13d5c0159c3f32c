// Command kmsctl is Keyholt's command line: it manages namespaces, keys and key
// versions, encrypts, decrypts and signs data, and examines a service. docs/kmsctl.md
// describes it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second ^C ends the program, whatever it waits for
	os.Exit(run(ctx, os.Args[1:], &app{
		stdin:    os.Stdin,
		stdout:   os.Stdout,
		stderr:   os.Stderr,
		getenv:   os.Getenv,
		terminal: isTerminal,
	}))
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, a *app) int {
	root := newRoot(a)
	if !completes(args) {
		setOnce(root)
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.exit(cmd, err)
}

// isTerminal reports whether a stream is one that a person sits at.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func newRoot(a *app) *cobra.Command {
	root := group("kmsctl", "Manage and use the keys of a Keyholt service",
		newNamespace(a),
		newKey(a),
		newImportJob(a),
		newRotate(a),
		newEnable(a),
		newDisable(a),
		newRestrict(a),
		newRevoke(a),
		newScheduleDestruction(a),
		newRestore(a),
		newEncrypt(a),
		newDecrypt(a),
		newSign(a),
		newVerify(a),
		newMac(a),
		newPublicKey(a),
		newCSR(a),
		newAsymmetricDecrypt(a),
		newDataKey(a),
		newRewrap(a),
		newRandom(a),
		newDoctor(a),
		newReplicas(a),
		newStore(a),
		newHSM(a),
		newVersion(a),
	)
	root.Long = rootHelp
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	a.addGlobalFlags(root)
	addVersionFlag(a, root)
	return root
}

const rootHelp = `Manage and use the keys of a Keyholt service.

Address and credentials come from flags, from the environment (KEYHOLT_PROFILE
names a profile file; KEYHOLT_ADDRESS and so on replace what stands in it), or
from profile.yaml in the user's configuration directory under keyholt/.
"kmsd dev" writes such a profile.

KEY is a key's name: orders, shop/orders (in namespace shop), or
namespaces/shop/keys/orders. A key version is KEY/VERSION, such as orders/3.

Exit codes: 0 success, 1 failure, 2 wrong usage or configuration.`
