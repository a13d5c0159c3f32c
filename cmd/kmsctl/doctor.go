package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newDoctor(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Examine the service and the way to it",
		Long: `Examine the service and the way to it: address and connection, TLS version and both
certificates, health, whom the service takes you for, clocks, and what the service finds
in its token, store and keys; these findings are for administrators only.
The exit code is 1 if anything does not work.`,
		Args: between(0, 0),
		RunE: a.local(func(ctx context.Context, _ []string) error {
			// An unhealthy service is what doctor is for: calls must reach it all the same.
			conn, err := a.connect(ctx, client.WithDialOptions(grpc.WithDisableHealthCheck()))
			if err != nil {
				return err
			}
			defer conn.close()
			d := &examination{a: a, conn: conn}
			d.run(ctx)
			if err := showList(a, d.findings, findingRow); err != nil {
				return err
			}
			return d.verdict()
		}),
	}
}

// examination collects findings: the client's own, then the service's.
type examination struct {
	a        *app
	conn     *connection
	findings []*kmsv1.Finding
}

const (
	severityOK      = kmsv1.Finding_SEVERITY_OK
	severityWarning = kmsv1.Finding_SEVERITY_WARNING
	severityError   = kmsv1.Finding_SEVERITY_ERROR
)

func (d *examination) add(area, check string, severity kmsv1.Finding_Severity, detail, remedy string) {
	d.findings = append(d.findings, &kmsv1.Finding{
		Area: area, Check: check, Severity: severity, Detail: detail, Remedy: remedy,
	})
}

// problem adds an error with its explanation.
func (d *examination) problem(area, check string, x explanation) {
	d.add(area, check, severityError, x.cause, x.next)
}

func (d *examination) verdict() error {
	failed := 0
	for _, f := range d.findings {
		if f.GetSeverity() == severityError {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s failed", failed, kms.Counted(len(d.findings), "check"))
	}
	return nil
}

func (d *examination) run(ctx context.Context) {
	if !d.connection(ctx) {
		return
	}
	d.health(ctx)
	d.service(ctx, d.principal(ctx))
}

// connection examines the way to the service. It reports whether there is one.
func (d *examination) connection(ctx context.Context) bool {
	profile := d.conn.Profile()
	reached := false
	for _, one := range profile.Each() {
		reached = d.address(ctx, one) || reached
	}
	return reached
}

// address examines the way to one address.
func (d *examination) address(ctx context.Context, profile client.Profile) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	state, err := probe(ctx, profile)
	if err != nil {
		d.problem("client", "connection", explainProbe(profile, err))
		return false
	}
	d.add("client", "connection", severityOK, profile.Address, "")
	if state == nil {
		d.add("transport", "peer", severityOK, "unix socket: the service asks the kernel who the caller is", "")
		return true
	}
	d.add("transport", "tls", severityOK, tls.VersionName(state.Version)+", "+tls.CipherSuiteName(state.CipherSuite), "")
	d.certificate("server certificate", state.PeerCertificates[0], "have the server's certificate renewed.")
	certificate, err := profile.ClientCertificate()
	if err != nil {
		d.problem("transport", "client certificate", explanation{cause: err.Error()})
		return true
	}
	d.certificate("client certificate", certificate.Leaf, "have the client's certificate renewed (cert_file, key_file).")
	return true
}

// certificate examines how long a certificate is still valid. Lifetimes range from an
// hour to years, so it warns when a tenth of it is left.
func (d *examination) certificate(check string, c *x509.Certificate, remedy string) {
	now := time.Now()
	detail := fmt.Sprintf("%s, valid from %s until %s", c.Subject,
		c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	switch left, lifetime := c.NotAfter.Sub(now), c.NotAfter.Sub(c.NotBefore); {
	case now.Before(c.NotBefore):
		d.add("transport", check, severityError, "not valid yet: "+detail, "check this machine's clock.")
	case left <= 0:
		d.add("transport", check, severityError, "expired: "+detail, remedy)
	case left < lifetime/10:
		d.add("transport", check, severityWarning,
			fmt.Sprintf("expires in %v: %s", left.Round(time.Minute), detail), remedy)
	default:
		d.add("transport", check, severityOK, detail, "")
	}
}

// health asks gRPC's health service about the server as a whole and each service.
func (d *examination) health(ctx context.Context) {
	health := healthv1.NewHealthClient(d.conn.Conn())
	for _, service := range []string{
		"",
		kmsv1.KeyService_ServiceDesc.ServiceName,
		kmsv1.CryptoService_ServiceDesc.ServiceName,
		kmsv1.SystemService_ServiceDesc.ServiceName,
	} {
		name := service
		if name == "" {
			name = "server"
		}
		response, err := health.Check(ctx, &healthv1.HealthCheckRequest{Service: service})
		switch {
		case err != nil:
			d.problem("health", name, d.a.explain(err))
		case response.GetStatus() != healthv1.HealthCheckResponse_SERVING:
			d.add("health", name, severityError, response.GetStatus().String(),
				"the service recovers by itself when the token answers again: see the findings below, and its log.")
		default:
			d.add("health", name, severityOK, response.GetStatus().String(), "")
		}
	}
}

// principal asks whom the service takes the caller for. The zero value is returned when
// there is no telling.
func (d *examination) principal(ctx context.Context) kms.Principal {
	response, err := d.conn.System().WhoAmI(ctx, &kmsv1.WhoAmIRequest{})
	if err != nil {
		d.problem("service", "principal", d.a.explain(err))
		return kms.Principal{}
	}
	p := wire.DecodeWhoAmIResponse(response)
	d.add("service", "principal", severityOK, p.Name, "")
	return p
}

// explainRefused says why a principal is not told what the service finds.
func explainRefused(p kms.Principal) explanation {
	x := explanation{cause: "not an administrator: the service refuses its findings"}
	switch p.Method {
	case kms.MethodTLS:
		x.next = "ask for " + p.Name + " to be added to `administrators` in the configuration of kmsd."
	case kms.MethodUnix:
		x.next = "use the unix socket as root or as the user that kmsd runs as, or a certificate of an administrator."
	default:
		x.next = "ask an administrator for access."
	}
	return x
}

// service asks the service for its own findings, and compares the clocks.
func (d *examination) service(ctx context.Context, caller kms.Principal) {
	before := time.Now()
	response, err := d.conn.System().Diagnose(ctx, &kmsv1.DiagnoseRequest{})
	after := time.Now()
	if errors.Is(wire.FromStatus(err), kms.ErrNotAccessible) {
		d.problem("service", "diagnose", explainRefused(caller))
		return
	}
	if err != nil {
		d.problem("service", "diagnose", d.a.explain(err))
		return
	}
	d.add("service", "version", severityOK, response.GetServerVersion(), "")
	if response.GetServerTime() != nil {
		d.clock(before, response.GetServerTime().AsTime(), after)
	}
	d.findings = append(d.findings, response.GetFindings()...)
}

// How far apart the clocks may be: certificates and the times in logs rest on them.
const (
	skewWarning = 5 * time.Second
	skewError   = time.Minute
)

// clock compares the server's clock with the middle of the call; by half the call's
// duration it can be wrong.
func (d *examination) clock(before, server, after time.Time) {
	uncertainty := after.Sub(before) / 2
	skew := server.Sub(before.Add(uncertainty))
	severity, remedy := severityOK, ""
	switch surely := skew.Abs() - uncertainty; {
	case surely > skewError:
		severity = severityError
	case surely > skewWarning:
		severity = severityWarning
	}
	if severity != severityOK {
		remedy = "synchronise the clocks of this machine and the server."
	}
	d.add("client", "clock", severity, fmt.Sprintf("the server's clock differs by %v, plus or minus %v",
		skew.Round(time.Millisecond), uncertainty.Round(time.Millisecond)), remedy)
}
