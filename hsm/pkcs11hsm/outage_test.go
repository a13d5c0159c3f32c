package pkcs11hsm

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

func TestOutageBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o outage
		if restore, err := o.try(); restore || err != nil {
			t.Fatal("no outage, nothing to do")
		}
		cause := errors.New("unplugged")
		o.begin(cause)
		o.begin(cause)
		begin := time.Now()
		var waits []time.Duration
		for range 12 {
			restore, err := o.try()
			if !restore || err != nil {
				t.Fatal("a try is due")
			}
			if restore, err := o.try(); restore || !errors.Is(err, hsm.ErrUnavailable) {
				t.Fatalf("one at a time: %v", err)
			}
			o.tried(cause)
			failed := time.Now()
			for {
				if restore, _ := o.try(); restore {
					break
				}
				<-time.After(10 * time.Millisecond)
			}
			o.trying = false
			waits = append(waits, time.Since(failed))
		}
		if waits[0] != firstBackOff || waits[1] != 2*firstBackOff || waits[11] != lastBackOff {
			t.Fatalf("waits %v", waits)
		}
		if restore, _ := o.try(); !restore {
			t.Fatal("a try is due")
		}
		if lasted := o.tried(nil); lasted != time.Since(begin) {
			t.Fatalf("lasted %v of %v", lasted, time.Since(begin))
		}
		if restore, err := o.try(); restore || err != nil {
			t.Fatal("the outage is over")
		}
	})
}
