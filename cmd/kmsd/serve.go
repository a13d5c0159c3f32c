package main

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/grpcapi"
)

// serve serves until ctx ends and what was under way is done. beside runs meanwhile, as
// does the watcher of the token, which tells setServing.
func serve(
	ctx context.Context, server *grpcapi.Server, service *kms.Service, setServing func(bool), listeners []net.Listener,
	log *slog.Logger, beside func(),
) error {
	ctx, cancel := context.WithCancel(ctx) // also ends what runs beside when a listener fails
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()

	watch := &watcher{service: service, setServing: setServing, log: log}
	watch.look(ctx)
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	background.Go(func() { watch.run(ctx, ticker.C) })
	background.Go(beside)
	background.Go(func() {
		<-ctx.Done()
		log.InfoContext(ctx, "kmsd drains: no new requests, those under way are finished")
		tellSystemd(ctx, notifyStopping, log)
	})

	for _, listener := range listeners {
		log.InfoContext(ctx, "listening", slog.String("network", listener.Addr().Network()),
			slog.String("address", listener.Addr().String()))
	}
	log.InfoContext(ctx, "kmsd is ready") // the listeners are open: who connects now is served
	tellSystemd(ctx, notifyReady, log)
	return server.Serve(ctx, listeners...)
}

// tellSystemd tells systemd a state; that nobody hears it is not worth failing for.
func tellSystemd(ctx context.Context, state string, log *slog.Logger) {
	if err := notify(context.WithoutCancel(ctx), state); err != nil {
		log.WarnContext(ctx, "systemd could not be notified", slog.String("state", state), slog.Any("error", err))
	}
}

func closeAll(listeners []net.Listener) {
	for _, listener := range listeners {
		_ = listener.Close() // whoever closes them all has an error to tell already
	}
}
