package prove

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

// TestTamperedWhileRunning: what is done to the rows under a server that runs does not
// change what it allows, and store verify names it.
func TestTamperedWhileRunning(t *testing.T) {
	for _, database := range []string{onSQLite, onPostgres} {
		t.Run(database, func(t *testing.T) {
			v := newTampered(t, database)
			v.revoke(t, v.orders.Version(1))
			v.execute(t, "UPDATE versions SET state = 'ENABLED' WHERE key_id = 'orders'")
			v.reports(t, v.orders.Version(1).String())
			if err := v.unwrap(t.Context(), v.secret[0]); !errors.Is(err, kms.ErrVersionRevoked) {
				t.Errorf("a revoked version: %v", err)
			}
			_, err := v.control.EnableKeyVersion(t.Context(), kms.Principal{}, v.orders.Version(1), "")
			if !errors.Is(err, kms.ErrTransition) {
				t.Errorf("enabling a revoked version: %v", err)
			}
		})
	}
}

// TestRolledBackWhileRunning: a store that is put back under a server that runs is changed
// no more. A server that shares its store looks there again and again, and serves nothing
// more; one that has its store for itself goes by what it knows, which is newer.
func TestRolledBackWhileRunning(t *testing.T) {
	for _, database := range []string{onSQLite, onPostgres} {
		t.Run(database, func(t *testing.T) {
			v := newTampered(t, database)
			v.copyAll(t, "older")
			v.revoke(t, v.orders.Version(1))
			v.putBackAll(t, "older")
			v.reports(t, "revision")

			name := v.keyName(t, "another")
			_, err := v.control.CreateKey(t.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: name})
			if !errors.Is(err, kms.ErrStoreWentBack) {
				t.Errorf("a change: %v", err)
			}
			if database == onPostgres {
				_, err := v.awaitServing(t.Context(), v.refusesAll)
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err := v.unwrap(t.Context(), v.secret[0]); !errors.Is(err, kms.ErrVersionRevoked) {
				t.Errorf("a revoked version: %v", err)
			}
			if _, err = generate(t.Context(), v.control, v.cards, 1); err != nil {
				t.Errorf("another key: %v", err)
			}
		})
	}
}

// refusesAll is nil when the server has noticed that its store went back.
func (v *tampered) refusesAll(ctx context.Context, r *replica) error {
	if err := v.unwrap(ctx, v.secret[0]); !errors.Is(err, kms.ErrStoreWentBack) {
		return fmt.Errorf("a revoked version: %w", err)
	}
	if _, err := generate(ctx, r.control, v.cards, 1); !errors.Is(err, kms.ErrStoreWentBack) {
		return fmt.Errorf("another key: %w", err)
	}
	return nil
}

// reports holds that the verification of the store says something that contains a text.
func (v *tampered) reports(t *testing.T, says string) {
	t.Helper()
	report, err := v.control.VerifyStore(t.Context(), kms.Principal{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(report.Problems, func(problem string) bool { return strings.Contains(problem, says) }) {
		t.Errorf("the verification finds %q, want %q", report.Problems, says)
	}
}
