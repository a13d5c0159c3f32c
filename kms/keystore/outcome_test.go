package keystore

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
)

// TestUnknownOutcome holds that a Store goes on right after a change of which it does not
// know whether it was made: its index is then where it was before, as here.
func TestUnknownOutcome(t *testing.T) {
	database, err := Open(t.Context(), Config{Driver: "sqlite", DSN: filepath.Join(t.TempDir(), "keyholt.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	if err := database.ConfirmSealKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	open := func(_ context.Context, _ string, uid hsm.UID) (Sealer, error) {
		return uidSealer{goldenSealer{}, uid}, nil
	}
	var stores [2]*Store
	for i := range stores {
		if stores[i], err = database.Store(open); err != nil {
			t.Fatal(err)
		}
	}
	namespace := keystoretest.Namespace(t, "shop")
	key := keystoretest.Key(t, namespace, "cards", kms.ProfileStrict)
	version := keystoretest.Version(key, 1)
	change := &kms.Change{Namespaces: []*kms.Namespace{namespace}, Keys: []*kms.Key{key}, Versions: []*kms.Version{version}}
	if _, err := commitFull(t, stores[0], change); err != nil {
		t.Fatal(err)
	}
	loadFull(t, stores[1], 1, 1)

	// The change was made, but the index has not heard of it.
	lost := *stores[0].index.set
	if _, _, err := stores[1].ReserveEncryptions(t.Context(), version.UID, 5, 100); err != nil {
		t.Fatal(err)
	}
	if stores[0].index.set.head != lost.head {
		t.Fatal("two stores share an index")
	}
	taken, before, err := stores[0].ReserveEncryptions(t.Context(), version.UID, 5, 100)
	if err != nil || taken != 5 || before != 5 {
		t.Errorf("ReserveEncryptions: %d after %d, %v", taken, before, err)
	}

	// The change was not made, although everything was ready for it: the index has not moved.
	ctx, cancel := context.WithCancel(t.Context())
	_, err = stores[0].write(ctx, 0, func(ctx context.Context, _ *view, w *writer) (bool, error) {
		err := w.put(ctx, reservationTable, &record{fixed: []any{version.UID.String()}, content: []any{int64(99)}, revision: 3})
		cancel()
		return true, err
	})
	if err == nil {
		t.Fatal("a cancelled change was made")
	}
	if _, before, err := stores[0].ReserveEncryptions(t.Context(), version.UID, 5, 100); err != nil || before != 10 {
		t.Errorf("ReserveEncryptions after a change that was not made: %d, %v", before, err)
	}
	loadFull(t, stores[1], 4, 1)
}

// uidSealer is a Sealer that passes for any seal key.
type uidSealer struct {
	goldenSealer
	uid hsm.UID
}

func (s uidSealer) KeyID() string { return s.uid.String() }
