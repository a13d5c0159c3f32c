package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/audit"
	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/authz"
	"github.com/keyholt/keyholt/kms/grpcapi"
	"github.com/keyholt/keyholt/kms/keystore"
	"github.com/keyholt/keyholt/kms/wire"
)

// auditCloseTimeout is how long the audit log has at the end to write what is queued.
const auditCloseTimeout = 10 * time.Second

// hooks are what the commands do differently on the way through run. Each may be nil.
type hooks struct {
	prepare func(context.Context) error // while only the data directory is locked
	ready   func([]net.Listener) error  // when clients may connect
	hangups <-chan os.Signal            // each makes the audit log open its file anew

	acceptRollback string // reason to start with a store that was put back
}

// run is the server's life: each part is made in turn, the last serves until ctx ends,
// and they are closed in the opposite order. What it made it closes, on an error too.
func run(ctx context.Context, c *config, log *slog.Logger, h hooks) (err error) {
	tuneMemory()
	lock, err := openDataDir(c.DataDir)
	if err != nil {
		return err
	}
	defer closing(&err, "the data directory", lock.release)
	if h.prepare != nil {
		if err := h.prepare(ctx); err != nil {
			return err
		}
	}
	log.InfoContext(ctx, "kmsd starts", slog.String("version", version()), slog.Int("pid", os.Getpid()),
		slog.String("data_dir", c.DataDir))

	instruments, err := newInstruments(ctx, c, log)
	if err != nil {
		return err
	}
	defer instruments.close(ctx, log)

	token, err := openToken(ctx, c.HSM, lanes(), log)
	if err != nil {
		return err
	}
	defer closing(&err, "the token", token.Close)
	logToken(ctx, log, token)
	tuneProcessors(ctx, token, token.Info().Sessions, log)

	store, err := openStore(ctx, c.Store, token)
	if err != nil {
		return err
	}
	defer closing(&err, "the store", store.Close)

	auditLog, err := openAudit(c.Audit, log)
	if err != nil {
		return err
	}
	defer closing(&err, "the audit log", func() error { return closeAudit(ctx, auditLog) })

	queued := instruments.token(c.HSM, token)
	defer closing(&err, "the token's queue", queued.Close)
	service, err := kms.New(ctx, kms.Config{
		Token:      queued,
		Store:      instruments.metrics.Store(store),
		Authorizer: authz.LocalAdministrators{UID: uint32(os.Geteuid()), Names: c.Administrators},
		Auditor:    instruments.metrics.Auditor(auditLog),
		Logger:     log,
		Observer:   instruments.tracing.Observer(),
		Replica:    kms.ReplicaConfig{Name: c.Replica.Name, Release: version(), Lease: c.Replica.Lease},
		Destruction: kms.DestructionLimits{
			Window: c.Destruction.Window, MinWindow: c.Destruction.MinWindow,
		},
		Anchors: []kms.Anchor{
			keystore.OpenFileAnchor(filepath.Join(c.DataDir, anchorFile), store),
			kms.NewTokenAnchor(queued, store.ID()),
		},
		AcceptRollback: h.acceptRollback,
	})
	if err != nil {
		return err
	}
	defer service.Close()
	instruments.metrics.Inventory(service.Inventory)
	instruments.metrics.Schedule(service.Schedule)
	instruments.metrics.Replica(service.ReplicaStatus)

	server, err := newServer(ctx, c, service, instruments.serverOptions(), log)
	if err != nil {
		return err
	}
	var serving atomic.Bool
	healthy := func() bool { return serving.Load() && ctx.Err() == nil }
	endMetrics, err := instruments.serveMetrics(ctx, c.Listen.Metrics, healthy, log)
	if err != nil {
		return err
	}
	defer endMetrics()
	listeners, err := c.Listen.listen(ctx)
	if err != nil {
		return err
	}
	if h.ready != nil {
		if err := h.ready(listeners); err != nil {
			closeAll(listeners)
			return err
		}
	}
	setServing := func(ok bool) {
		serving.Store(ok)
		server.SetServing(ok)
	}
	return serve(ctx, server, service, setServing, listeners, log, func() { reopenAudit(ctx, auditLog, h.hangups, log) })
}

// closing closes a part when run returns, and adds what goes wrong to run's error.
func closing(err *error, part string, closePart func() error) {
	if closeErr := closePart(); closeErr != nil {
		*err = errors.Join(*err, fmt.Errorf("close %s: %w", part, closeErr))
	}
}

// openToken opens the token, with so many lanes. If it refused the PIN, the error names the
// file that the PIN is from.
func openToken(ctx context.Context, c hsmConfig, lanes int, log *slog.Logger) (*pkcs11hsm.Token, error) {
	config := c.token(log)
	config.Lanes = lanes
	token, err := pkcs11hsm.Open(ctx, config)
	if errors.Is(err, hsm.ErrPINIncorrect) {
		return nil, fmt.Errorf("%w; the PIN is that of %s", err, c.PINFile)
	}
	return token, err
}

// token is the configuration in the words of the token's package.
func (c hsmConfig) token(log *slog.Logger) pkcs11hsm.Config {
	return pkcs11hsm.Config{
		Module:                   c.Module,
		InitArgs:                 c.InitArgs,
		TokenLabel:               c.TokenLabel,
		TokenSerial:              c.TokenSerial,
		PIN:                      func() ([]byte, error) { return readPIN(c.PINFile) },
		Sessions:                 c.Sessions,
		MaxBlockBytes:            c.MaxBlockBytes,
		RequireAllowedMechanisms: c.RequireAllowedMechanisms,
		Logger:                   log,
	}
}

func logToken(ctx context.Context, log *slog.Logger, token *pkcs11hsm.Token) {
	info := token.Info()
	log.InfoContext(ctx, "token opened", slog.String("label", info.Label), slog.String("serial", info.Serial),
		slog.String("model", info.Model), slog.String("module", info.Module), slog.Int("sessions", info.Sessions),
		slog.Int("max_block_bytes", info.MaxBlockBytes))
	for _, limitation := range info.Limitations {
		log.WarnContext(ctx, "the token has a limitation", slog.String("name", limitation.Name),
			slog.String("detail", limitation.Detail))
	}
}

// openStore opens the store with its seal key in the token.
func openStore(ctx context.Context, c storeConfig, token *pkcs11hsm.Token) (*keystore.Store, error) {
	where, err := c.keystore()
	if err != nil {
		return nil, err
	}
	return keystore.OpenStore(ctx, where, token)
}

func openAudit(c auditConfig, log *slog.Logger) (*audit.File, error) {
	sync, err := audit.ParseSync(c.Sync)
	if err != nil {
		return nil, as(errConfiguration, err)
	}
	file, err := audit.OpenFile(audit.Config{Path: c.File, Sync: sync, Reason: wire.Reason, Logger: log})
	if err != nil {
		return nil, as(errStorage, err)
	}
	return file, nil
}

// closeAudit goes on when ctx has ended, as it has by then.
func closeAudit(ctx context.Context, file *audit.File) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditCloseTimeout)
	defer cancel()
	if err := file.Close(ctx); err != nil {
		return as(errStorage, err)
	}
	return nil
}

// reopenAudit opens the audit file anew at each hangup, until ctx ends.
func reopenAudit(ctx context.Context, file *audit.File, hangups <-chan os.Signal, log *slog.Logger) {
	for {
		select {
		case <-hangups:
			if err := file.Reopen(ctx); err != nil {
				log.ErrorContext(ctx, "the audit file cannot be opened anew; records go to the one before",
					slog.Any("error", err))
			} else {
				log.InfoContext(ctx, "opened the audit file anew")
			}
		case <-ctx.Done():
			return
		}
	}
}

func newServer(
	ctx context.Context, c *config, service *kms.Service, watch []grpc.ServerOption, log *slog.Logger,
) (*grpcapi.Server, error) {
	credentials := authn.ServerCredentials(nil)
	if c.Listen.GRPC != "" {
		tlsConfig, err := authn.ServerTLS(c.tlsFiles(), func(err error) {
			if err != nil {
				log.ErrorContext(ctx, "changed TLS files cannot be used; those before stay in use", slog.Any("error", err))
			} else {
				log.InfoContext(ctx, "read the changed TLS files")
			}
		})
		if err != nil {
			return nil, err
		}
		credentials = authn.ServerCredentials(tlsConfig)
		if len(c.Administrators) == 0 {
			log.WarnContext(ctx, "no client certificate is an administrator: everybody is refused over TLS")
		}
	}
	return grpcapi.New(grpcapi.Config{
		API:          service,
		Credentials:  credentials,
		Logger:       log,
		Version:      version(),
		Watch:        watch,
		MaxInFlight:  c.Limits.MaxInFlight,
		DrainTimeout: c.Shutdown.DrainTimeout,
	})
}
