package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/envelope"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// counter counts RPCs by method.
type counter struct {
	all, unwraps, generates, batchSigns atomic.Int64
}

func (c *counter) option() client.Option {
	return client.WithDialOptions(grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any,
		conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		c.all.Add(1)
		switch method {
		case kmsv1.CryptoService_UnwrapDataKeys_FullMethodName:
			c.unwraps.Add(1)
		case kmsv1.CryptoService_GenerateDataKeys_FullMethodName:
			c.generates.Add(1)
		case kmsv1.CryptoService_BatchSign_FullMethodName:
			c.batchSigns.Add(1)
		}
		return invoke(ctx, method, req, reply, conn, opts...)
	}))
}

func dataKeysOf(t testing.TB, c *client.Client, id string, opts ...client.DataKeysOption) *client.DataKeys {
	t.Helper()
	keys, err := c.DataKeys(createKey(t, c, id), opts...)
	must(t, err)
	return keys
}

func TestDataKeys(t *testing.T) {
	s := startServer(t)
	c := dial(t, s.admin)
	orders := dataKeysOf(t, c, "orders", client.WithDataKeySize(48))
	invoices := dataKeysOf(t, c, "invoices")
	ctx, binding := t.Context(), kms.Binding{Context: map[string]string{"row": "42"}, AAD: []byte("v1")}

	generated, err := orders.Generate(ctx, binding)
	must(t, err)
	if len(generated.Key) != 48 {
		t.Errorf("a key of %d bytes", len(generated.Key))
	}
	wrapped, err := orders.Wrap(ctx, generated.Key, binding)
	must(t, err)
	for _, w := range [][]byte{generated.Wrapped, wrapped} {
		key, err := orders.Unwrap(ctx, w, binding)
		must(t, err)
		if !bytes.Equal(key, generated.Key) {
			t.Error("another key came back")
		}
	}
	for name, test := range map[string]struct {
		keys    *client.DataKeys
		wrapped []byte
		binding kms.Binding
		want    error
	}{
		"another key":     {invoices, wrapped, binding, kms.ErrKeyMismatch},
		"no binding":      {orders, wrapped, kms.Binding{}, kms.ErrDecryptionFailed},
		"another context": {orders, wrapped, kms.Binding{Context: map[string]string{"row": "43"}, AAD: []byte("v1")}, kms.ErrDecryptionFailed},
		"garbage":         {orders, []byte("garbage"), binding, kms.ErrMalformedCiphertext},
		"nothing":         {orders, nil, binding, kms.ErrMalformedCiphertext},
		"very much":       {orders, make([]byte, 1<<20), binding, kms.ErrMalformedCiphertext},
		"reserved":        {orders, wrapped, kms.Binding{Context: map[string]string{"keyholt.x": ""}}, kms.ErrInvalidRequest},
	} {
		if key, err := test.keys.Unwrap(ctx, test.wrapped, test.binding); !errors.Is(err, test.want) || key != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := orders.Wrap(ctx, make(kms.Secret, 15), binding); !errors.Is(err, kms.ErrInvalidRequest) {
		t.Errorf("a short key: %v", err)
	}
	if _, err := orders.Generate(ctx, kms.Binding{Context: map[string]string{"": ""}}); !errors.Is(err, kms.ErrInvalidRequest) {
		t.Errorf("an empty context key: %v", err)
	}
}

func TestDataKeysRefuses(t *testing.T) {
	c := dial(t, client.Profile{Address: "unix:///nowhere"})
	key, err := kms.ParseKeyName("namespaces/shop/keys/orders")
	must(t, err)
	for name, make := range map[string]func() (*client.DataKeys, error){
		"no key":          func() (*client.DataKeys, error) { return c.DataKeys(kms.KeyName{}) },
		"short data keys": func() (*client.DataKeys, error) { return c.DataKeys(key, client.WithDataKeySize(8)) },
		"unwrap cache": func() (*client.DataKeys, error) {
			return c.DataKeys(key, client.WithUnwrapCache(client.CacheLimits{MaxAge: -1}))
		},
		"seal reuse": func() (*client.DataKeys, error) {
			return c.DataKeys(key, client.WithSealReuse(client.CacheLimits{MaxUses: 1 << 30}))
		},
	} {
		if _, err := make(); !errors.Is(err, kms.ErrInvalidRequest) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Hundreds of callers with all kinds of keys and bindings, some of them wrong, some of
// them leaving: each gets what is its own, and few RPCs are made.
func TestManyCallers(t *testing.T) {
	s := startServer(t)
	var count counter
	c, err := client.Dial(t.Context(), s.unix, count.option())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	keys := []*client.DataKeys{dataKeysOf(t, c, "a"), dataKeysOf(t, c, "b"), dataKeysOf(t, c, "c")}
	before := count.all.Load()
	const callers, rounds = 100, 20
	var running sync.WaitGroup
	for i := range callers {
		running.Go(func() {
			mine := keys[i%len(keys)]
			binding := kms.Binding{}
			if i%2 == 0 {
				binding.Context = map[string]string{"caller": fmt.Sprint(i % 10)}
			}
			for round := range rounds {
				if err := useOne(t.Context(), mine, binding, (i+round)%5 == 0); err != nil {
					t.Errorf("caller %d: %v", i, err)
				}
			}
		})
	}
	running.Wait()
	calls := int64(callers * rounds * 4)
	if made := count.all.Load() - before; made > calls/2 {
		t.Errorf("%d RPCs for about %d calls", made, calls)
	}
}

// useOne makes a data key and looks at it in all ways; if leaves, one caller more comes
// and goes.
func useOne(ctx context.Context, keys *client.DataKeys, binding kms.Binding, leaves bool) error {
	generated, err := keys.Generate(ctx, binding)
	if err != nil {
		return err
	}
	if leaves {
		short, cancel := context.WithTimeout(ctx, 50*time.Microsecond)
		defer cancel()
		secret, err := keys.Unwrap(short, generated.Wrapped, binding)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		secret.Wipe()
	}
	wrapped, err := keys.Wrap(ctx, generated.Key, binding)
	if err != nil {
		return err
	}
	unwrapped, err := keys.Unwrap(ctx, wrapped, binding)
	if err != nil {
		return err
	}
	if !bytes.Equal(unwrapped, generated.Key) {
		return errors.New("another caller's key")
	}
	wrapped[len(wrapped)-1]++
	if _, err := keys.Unwrap(ctx, wrapped, binding); !errors.Is(err, kms.ErrDecryptionFailed) {
		return fmt.Errorf("a changed key: %w", err)
	}
	return nil
}

func TestUnwrapCache(t *testing.T) {
	s := startServer(t)
	var count counter
	c, err := client.Dial(t.Context(), s.unix, count.option())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	plain := dataKeysOf(t, c, "orders")
	cached, err := c.DataKeys(plain.Key(), client.WithUnwrapCache(client.CacheLimits{MaxAge: time.Hour}))
	must(t, err)
	ctx, binding := t.Context(), kms.Binding{Context: map[string]string{"row": "42"}}
	generated, err := plain.Generate(ctx, binding)
	must(t, err)
	unwraps := func(keys *client.DataKeys) int64 {
		before := count.unwraps.Load()
		for range 5 {
			key, err := keys.Unwrap(ctx, generated.Wrapped, binding)
			must(t, err)
			if !bytes.Equal(key, generated.Key) {
				t.Fatal("another key came back")
			}
			key.Wipe()
		}
		return count.unwraps.Load() - before
	}
	if n := unwraps(plain); n != 5 {
		t.Errorf("without a cache: %d RPCs", n)
	}
	if n := unwraps(cached); n != 1 {
		t.Errorf("with a cache: %d RPCs", n)
	}
	if _, err := cached.Unwrap(ctx, generated.Wrapped, kms.Binding{}); !errors.Is(err, kms.ErrDecryptionFailed) {
		t.Errorf("the cache answered without the binding: %v", err)
	}
}

func TestSealAndOpen(t *testing.T) {
	s := startServer(t)
	var count counter
	c, err := client.Dial(t.Context(), s.unix, count.option())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	keys := dataKeysOf(t, c, "orders", client.WithDataKeySize(16)) // of no meaning for messages
	reusing, err := c.DataKeys(keys.Key(), client.WithSealReuse(client.CacheLimits{MaxUses: 3, MaxAge: time.Hour}))
	must(t, err)
	ctx := t.Context()
	binding := kms.Binding{Context: map[string]string{"table": "orders"}, AAD: []byte("row 42")}
	for _, size := range []int{0, 1, 1000, envelope.MaxPlaintextSize + 1} {
		plaintext := bytes.Repeat([]byte("x"), size)
		message, err := keys.Seal(ctx, plaintext, binding)
		must(t, err)
		if len(message) > size+envelope.MessageOverheadMax {
			t.Errorf("%d bytes became %d", size, len(message))
		}
		opened, err := keys.Open(ctx, message, binding)
		must(t, err)
		if !bytes.Equal(opened, plaintext) {
			t.Errorf("%d bytes came back as %d others", size, len(opened))
		}
	}

	before := count.generates.Load()
	var messages [][]byte
	for i := range 7 {
		message, err := reusing.Seal(ctx, fmt.Append(nil, i), binding)
		must(t, err)
		messages = append(messages, message)
	}
	if n := count.generates.Load() - before; n != 3 {
		t.Errorf("%d data keys for 7 messages of 3 each", n)
	}
	for i, message := range messages {
		opened, err := keys.Open(ctx, message, binding)
		must(t, err)
		if string(opened) != fmt.Sprint(i) {
			t.Errorf("message %d says %q", i, []byte(opened))
		}
	}

	message := messages[0]
	changed := func(at int) []byte {
		m := bytes.Clone(message)
		m[at] ^= 1
		return m
	}
	otherContext := kms.Binding{Context: map[string]string{"table": "customers"}, AAD: binding.AAD}
	otherData := kms.Binding{Context: binding.Context, AAD: []byte("row 43")}
	for name, test := range map[string]struct {
		message []byte
		binding kms.Binding
		want    error
	}{
		"magic":          {changed(0), binding, envelope.ErrMalformed},
		"wrapped key":    {changed(60), binding, kms.ErrDecryptionFailed},
		"nonce":          {changed(98), binding, client.ErrMessage},
		"tag":            {changed(len(message) - 1), binding, client.ErrMessage},
		"cut off":        {message[:len(message)-1], binding, client.ErrMessage},
		"other context":  {message, otherContext, kms.ErrDecryptionFailed},
		"other data":     {message, otherData, client.ErrMessage},
		"no tag":         {message[:len(message)-2], binding, envelope.ErrMalformed},
		"nothing at all": {nil, binding, envelope.ErrMalformed},
	} {
		if plaintext, err := keys.Open(ctx, test.message, test.binding); !errors.Is(err, test.want) || plaintext != nil {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

// The wrapped key of a message is bound to being one: another wrapped key of the same
// context does not do.
func TestMessageKeyIsOfAMessage(t *testing.T) {
	s := startServer(t)
	keys := dataKeysOf(t, dial(t, s.unix), "orders")
	ctx, binding := t.Context(), kms.Binding{Context: map[string]string{"table": "orders"}}
	message, err := keys.Seal(ctx, []byte("plaintext"), binding)
	must(t, err)
	parsed, err := envelope.ParseMessage(message)
	must(t, err)
	if _, err := keys.Unwrap(ctx, parsed.WrappedKey, binding); !errors.Is(err, kms.ErrDecryptionFailed) {
		t.Errorf("a message's key as a plain one: %v", err)
	}
	generated, err := keys.Generate(ctx, binding)
	must(t, err)
	header, err := envelope.AppendMessageHeader(nil, generated.Wrapped)
	must(t, err)
	if _, err := keys.Open(ctx, append(header, parsed.Sealed...), binding); !errors.Is(err, kms.ErrDecryptionFailed) {
		t.Errorf("a plain key as a message's: %v", err)
	}
}

// What is true of the whole service is told to all callers, and Close ends those that wait.
func TestServiceGone(t *testing.T) {
	c, err := client.Dial(t.Context(), client.Profile{Address: "unix:///nowhere"})
	must(t, err)
	key, err := kms.ParseKeyName("namespaces/shop/keys/orders")
	must(t, err)
	keys, err := c.DataKeys(key)
	must(t, err)
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			if _, err := keys.Unwrap(t.Context(), make([]byte, 92), kms.Binding{}); err == nil {
				t.Error("an answer from nowhere")
			}
		})
	}
	running.Wait()
	must(t, c.Close())
	if _, err := keys.Generate(t.Context(), kms.Binding{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after Close: %v", err)
	}
}

func createKey(t testing.TB, c *client.Client, id string) kms.KeyName {
	t.Helper()
	profile := c.Profile()
	key, err := kms.NewKeyName(profile.DefaultNamespace(), id)
	must(t, err)
	_, err = c.API().CreateKey(t.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: key})
	must(t, err)
	return key
}
