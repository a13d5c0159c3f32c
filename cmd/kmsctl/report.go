package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/envelope"
	"github.com/keyholt/keyholt/kms/wire"
)

// explanation is an error for a person: what went wrong, details line by line, and what
// to do about it.
type explanation struct {
	cause   string
	details []string
	next    string
}

// report writes an error to standard error.
func (a *app) report(err error) {
	x := a.explain(err)
	a.sayf("kmsctl: %s", x.cause)
	for _, line := range x.details {
		a.sayf("  %s", line)
	}
	if x.next != "" {
		a.sayf("What to do: %s", strings.ToUpper(x.next[:1])+x.next[1:])
	}
}

// explain finds out what an error means. Errors of stubs and of the API are both
// understood.
func (a *app) explain(err error) explanation {
	err = wire.FromStatus(err)
	var (
		domain  *kms.Error
		items   *itemsError
		advised *advisedError
	)
	if errors.As(err, &advised) {
		x := a.explain(advised.err)
		x.next = advised.next
		return x
	}
	switch {
	case errors.As(err, &items):
		return explanation{cause: items.Error(), next: a.advice(items.last)}
	case errors.As(err, &domain):
		return a.explainDomain(domain, err)
	case errors.Is(err, context.DeadlineExceeded):
		return explanation{
			cause: fmt.Sprintf("no answer within %v", a.timeout),
			next:  "examine the service with \"kmsctl doctor\", or allow more with --timeout.",
		}
	case errors.Is(err, context.Canceled):
		return explanation{cause: "interrupted"}
	case errors.Is(err, client.ErrStream):
		return explanation{
			cause: err.Error(),
			next:  "fetch the file again from where it came from, or restore it from a backup.",
		}
	case errors.Is(err, envelope.ErrMalformed):
		return explanation{cause: err.Error(), next: "check that the input is complete and unchanged."}
	case status.Code(err) == codes.Unavailable && a.profile != nil:
		return explainUnreachable(*a.profile, err, a.timeout)
	case status.Code(err) == codes.Unimplemented:
		return explanation{cause: statusText(err), next: "the service is older than this kmsctl: use one of its version."}
	default:
		return explanation{cause: statusText(err)}
	}
}

// advisedError is an error with better advice than its kind has in general.
type advisedError struct {
	err  error
	next string
}

func (e *advisedError) Error() string { return e.err.Error() }
func (e *advisedError) Unwrap() error { return e.err }

// statusText is the message of a status without gRPC's framing, or the error's text.
func statusText(err error) string {
	if st, ok := status.FromError(err); ok && st.Message() != "" {
		return st.Message()
	}
	return err.Error()
}

func (a *app) explainDomain(e *kms.Error, err error) explanation {
	x := explanation{
		cause: fmt.Sprintf("%s (%s)", e.Error(), wire.Reason(err)),
		next:  a.advice(err),
	}
	for _, v := range e.Violations {
		if line := v.Field + ": " + v.Description; line != e.Error() {
			x.details = append(x.details, line)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(e.Metadata)) {
		if v := e.Metadata[k]; !strings.Contains(e.Error(), v) {
			x.details = append(x.details, strings.ReplaceAll(k, "_", " ")+": "+v)
		}
	}
	return x
}

// commandAdvice is what adviceTable is for all commands, for some: to make what does not exist
// helps those that make something with it, and nobody who wants to read or to decrypt.
var commandAdvice = []struct {
	sentinel error
	commands []string
	next     string
}{
	{kms.ErrNamespaceNotFound, []string{"key create", "import-job create"}, `see which there are with "kmsctl namespace list", ` +
		`or make it with "kmsctl namespace create".`},
	{kms.ErrKeyNotFound, []string{"encrypt", "sign", "mac", "csr", "public-key", "datakey generate"}, `see which there are with ` +
		`"kmsctl key list", or make it with "kmsctl key create"; --namespace chooses the namespace.`},
	{kms.ErrKeyNotFound, []string{"key import"}, `see which there are with "kmsctl key list", or have it made with the imported ` +
		`version by --create; --namespace chooses the namespace.`},
	{kms.ErrKeyExists, []string{"key import"}, `leave out --create to import a version into it, or choose another name.`},
}

// adviceTable is what to do with this program about an error of the service, where that
// is more than the service's own advice.
var adviceTable = []struct {
	sentinel error
	next     string
}{
	{kms.ErrNamespaceNotFound, `see which there are with "kmsctl namespace list".`},
	{kms.ErrKeyNotFound, `see which there are with "kmsctl key list"; --namespace chooses the namespace.`},
	{kms.ErrImportJobExists, `use it ("kmsctl import-job describe JOB" shows it), or choose another name; an expired job makes way ` +
		`for one of its name.`},
	{kms.ErrImportJobNotFound, `see which there are with "kmsctl import-job list", or make it with "kmsctl import-job create".`},
	{kms.ErrVersionNotFound, `see which there are with "kmsctl key versions KEY".`},
	{kms.ErrKeyExists, `use it, rotate it with "kmsctl rotate KEY", or choose another name.`},
	{kms.ErrVersionDisabled, `enable it with "kmsctl enable KEY/VERSION", or make a new primary version ` +
		`with "kmsctl rotate KEY".`},
	{kms.ErrNoEnabledPrimary, `make one with "kmsctl rotate KEY", or enable the primary version with ` +
		`"kmsctl enable KEY/VERSION".`},
	{kms.ErrEncryptionLimit, `make a new version with "kmsctl rotate KEY".`},
	{kms.ErrVersionRewrapOnly, `rewrap the data with "kmsctl rewrap", or enable the version with "kmsctl enable KEY/VERSION".`},
	{kms.ErrVersionDestroyScheduled, `if it is still needed, restore it with "kmsctl restore KEY/VERSION", then enable it.`},
	{kms.ErrStillSpreading, `the change is made. Repeat the command to wait on, with a longer --timeout if need be; it changes ` +
		`nothing more. "kmsctl replicas" shows which replica is behind.`},
	{kms.ErrDataLoss, `rotate the key first, and rewrap what the version protects ("kmsctl rewrap") or sign it again; ` +
		`or give it up with --accept-data-loss.`},
	{kms.ErrTransition, `see its state with "kmsctl key describe KEY/VERSION"; "kmsctl enable" or "kmsctl disable" may have to come ` +
		`first. From REVOKED and DESTROYED no state leads back to use.`},
	{kms.ErrUnsupported, `use another algorithm, another protection profile or another HSM; "kmsctl doctor" tells what this one can do.`},
	{kms.ErrRolledBack, `bring back the newest state; or, if it is lost, accept that with --accept-rollback (of "kmsctl store restore", ` +
		`or of "kmsd serve").`},
	{kms.ErrDecryptionFailed, `give exactly the --context of the encryption; if it is right, the input was changed.`},
	{kms.ErrTokenUnavailable, doctorHint},
	{kms.ErrStoreUnavailable, doctorHint},
	{kms.ErrAuditUnavailable, doctorHint},
	{kms.ErrLeaseLapsed, doctorHint},
}

const doctorHint = `examine the service with "kmsctl doctor"; it recovers by itself when the cause is gone.`

func (a *app) advice(err error) string {
	if e, ok := errors.AsType[*kms.Error](err); ok && errors.Is(err, kms.ErrNoEnabledPrimary) && e.Metadata["state"] == kms.StateEnabled.String() {
		return `make a new primary version with "kmsctl rotate KEY".` // to enable it would change nothing
	}
	if errors.Is(err, kms.ErrKeyNotFound) && len(a.args) > 0 {
		if name, number, found := strings.Cut(a.args[0], "/"); found && number != "" && strings.Trim(number, "0123456789") == "" {
			return fmt.Sprintf("name the key as %s: %s is the key %s of namespace %s here. A version goes by --version, where the command has it.",
				name, a.args[0], number, name)
		}
	}
	for _, row := range commandAdvice {
		if errors.Is(err, row.sentinel) && slices.Contains(row.commands, a.command) {
			return row.next
		}
	}
	for _, row := range adviceTable {
		if errors.Is(err, row.sentinel) {
			return row.next
		}
	}
	if errors.Is(err, kms.ErrInvalidRequest) && a.command != "" {
		return fmt.Sprintf("correct what it names: %q tells what the command takes.", "kmsctl "+a.command+" --help")
	}
	return wire.Advice(err)
}

// explainUnreachable asks the network itself why a call found no connection.
func explainUnreachable(p client.Profile, err error, timeout time.Duration) explanation {
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, probeTimeout))
	defer cancel()
	if one, cause := probeAll(ctx, p); cause != nil {
		return explainProbe(one, cause)
	}
	return explanation{cause: statusText(err), next: "examine the service with \"kmsctl doctor\"."}
}
