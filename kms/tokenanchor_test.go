package kms_test

import (
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// While another process writes the anchor's label the object is out of sight. No second
// one is made then.
func TestTokenAnchorOutOfSight(t *testing.T) {
	t.Parallel()
	faults := hsmtest.NewFaults(hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open())
	head := func(r kms.Revision) kms.Head { return kms.Head{Revision: r} }
	first := kms.NewTokenAnchor(faults, "store")
	if _, ok, err := first.Read(t.Context()); ok || err != nil {
		t.Fatalf("a new token remembers something: %v, %v", ok, err)
	}
	if err := first.Note(t.Context(), head(1)); err != nil {
		t.Fatal(err)
	}
	made := faults.Count(hsmtest.MethodGenerateKey)

	anchor := kms.NewTokenAnchor(faults, "store")
	faults.FailBefore(hsmtest.MethodKey, hsm.ErrKeyNotFound, faults.Count(hsmtest.MethodKey)+1)
	if noted, ok, err := anchor.Read(t.Context()); !ok || err != nil || noted.Revision != 1 {
		t.Errorf("read %+v, %v, %v; want revision 1", noted, ok, err)
	}
	faults.FailBefore(hsmtest.MethodSetLabel, hsm.ErrKeyNotFound, faults.Count(hsmtest.MethodSetLabel)+1)
	faults.FailBefore(hsmtest.MethodKey, hsm.ErrKeyNotFound, faults.Count(hsmtest.MethodKey)+1)
	if err := anchor.Note(t.Context(), head(2)); err != nil {
		t.Errorf("note revision 2: %v", err)
	}
	if noted, _, err := anchor.Read(t.Context()); err != nil || noted.Revision != 2 {
		t.Errorf("read %+v, %v; want revision 2", noted, err)
	}

	// Not even when it stays away.
	faults.FailBefore(hsmtest.MethodSetLabel, hsm.ErrKeyNotFound)
	faults.FailBefore(hsmtest.MethodKey, hsm.ErrKeyNotFound)
	if err := anchor.Note(t.Context(), head(3)); err == nil {
		t.Error("noted in an object that is gone")
	}
	if again := faults.Count(hsmtest.MethodGenerateKey); made != 1 || again != 1 {
		t.Errorf("the object was made %d times, and then %d times", made, again-made)
	}
}
