package coalesce_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Coalescer in front of an in-memory token with known keys.
type world struct {
	*testing.T
	token  *hsmtest.Faults
	blocks *coalesce.Coalescer
	values map[hsm.UID][]byte
}

var (
	hot  = hsm.UID{1}
	rare = hsm.UID{2}
)

// newWorld makes a token with the keys hot and rare.
func newWorld(t *testing.T, cfg coalesce.Config) *world {
	t.Helper()
	w := &world{
		T:      t,
		token:  hsmtest.NewFaults(hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open()),
		values: make(map[hsm.UID][]byte),
	}
	w.blocks = coalesce.New(w.token, cfg)
	w.addKey(hot)
	w.addKey(rare)
	t.Cleanup(func() {
		w.token.Clear()
		_ = w.blocks.Close()
		if err := w.token.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) addKey(uid hsm.UID) {
	w.Helper()
	value := make([]byte, 32)
	rand.Read(value)
	w.values[uid] = value
	if err := w.token.ImportSessionKey(w.Context(), uid, hsm.AES256Blocks, value); err != nil {
		w.Fatal(err)
	}
}

// takes makes every token call take some time.
func (w *world) takes(d time.Duration) {
	w.token.Hook(hsmtest.MethodEncryptBlocks, func(context.Context, hsmtest.Call) error {
		pass(d)
		return nil
	})
}

// pass lets time pass, which is virtual in these tests.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// errWrong is the error of a request that got something else than its blocks.
var errWrong = errors.New("not the AES of the request's own blocks")

// request encrypts random blocks in place and checks what comes back.
func (w *world) request(ctx context.Context, key hsm.UID, size int) error {
	return w.requestIf(ctx, key, size, nil)
}

func (w *world) requestIf(ctx context.Context, key hsm.UID, size int, admit func() error) error {
	blocks := make([]byte, size)
	rand.Read(blocks)
	want := w.encrypted(key, blocks)
	if err := w.blocks.EncryptBlocksIf(ctx, key, blocks, blocks, admit); err != nil {
		return err
	}
	if !bytes.Equal(blocks, want) {
		return errWrong
	}
	return nil
}

// encrypted is the standard library's answer.
func (w *world) encrypted(key hsm.UID, src []byte) []byte {
	block, err := aes.NewCipher(w.values[key])
	if err != nil {
		w.Error(err)
		return nil
	}
	dst := make([]byte, len(src))
	for i := 0; i < len(src); i += aes.BlockSize {
		block.Encrypt(dst[i:], src[i:])
	}
	return dst
}

// start makes a request on a goroutine of its own.
func (w *world) start(ctx context.Context, key hsm.UID, size int) <-chan error {
	done := make(chan error, 1)
	go func() { done <- w.request(ctx, key, size) }()
	return done
}

// succeed waits for requests and expects no error.
func (w *world) succeed(pending ...<-chan error) {
	w.Helper()
	for i, done := range pending {
		if err := <-done; err != nil {
			w.Errorf("request %d: %v", i, err)
		}
	}
}

// stats are the counters when nothing runs: a call is counted after its requests
// were answered.
func (w *world) stats() coalesce.Stats {
	synctest.Wait()
	return w.blocks.Stats()
}

// sizes are the bytes of the token calls that have begun, in order.
func (w *world) sizes() (sizes []int) {
	for _, call := range w.token.Log() {
		if call.Method == hsmtest.MethodEncryptBlocks {
			sizes = append(sizes, call.Size)
		}
	}
	return sizes
}

func (w *world) wantSizes(want ...int) {
	w.Helper()
	if got := w.sizes(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.Errorf("token calls of %d bytes, want %d", got, want)
	}
}
