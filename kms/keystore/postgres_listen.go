package keystore

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// The pause before a lost connection for notifications is made again grows from the first
// to the second, and is between half and all of that, so that replicas do not come back
// in step.
const (
	firstListenPause   = 50 * time.Millisecond
	longestListenPause = 2 * time.Second
)

// notificationChannel is that of every store in a database; the payload of a notification
// says which store it is of.
const notificationChannel = "keyholt"

// listener hears what other processes have changed: NOTIFY
// (https://www.postgresql.org/docs/current/sql-notify.html) reaches whoever listens when
// the transaction commits. The payload is the sender, a blank, and the schema.
type listener struct {
	connect func(context.Context) (*pgx.Conn, error)
	sender  string // of this process's own notifications, which are not news
	schema  string // of the store
}

// notify tells the other processes when tx commits.
func (l *listener) notify(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "SELECT pg_notify('"+notificationChannel+"', $1 || ' ' || current_schema())", l.sender)
	return err
}

// Listen implements peers.
func (l *listener) Listen(ctx context.Context, wake func()) {
	pause := firstListenPause
	for ctx.Err() == nil {
		if l.hear(ctx, wake) {
			pause = firstListenPause
		}
		jitter := rand.N(pause / 2) //nolint:gosec // spreads load, decides nothing
		select {
		case <-time.After(pause/2 + jitter):
		case <-ctx.Done():
		}
		pause = min(2*pause, longestListenPause)
	}
}

// hear listens until ctx ends or the connection is lost. connected tells that there was one.
func (l *listener) hear(ctx context.Context, wake func()) (connected bool) {
	conn, err := l.connect(ctx)
	if err != nil {
		return false
	}
	defer closeSession(ctx, conn)
	if _, err := conn.Exec(ctx, "LISTEN "+notificationChannel); err != nil {
		return false
	}
	wake() // nothing was heard until now
	for {
		notification, err := conn.WaitForNotification(ctx)
		if err != nil {
			return true
		}
		sender, schema, _ := strings.Cut(notification.Payload, " ")
		if sender != l.sender && schema == l.schema {
			wake()
		}
	}
}

// closeSession closes a connection, also when ctx has ended.
func closeSession(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockStatementTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the server ends the session either way
}
