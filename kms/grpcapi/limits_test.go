package grpcapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func TestBadRequestsNeverReachTheAPI(t *testing.T) {
	// Every method of the empty fake panics, which would be INTERNAL.
	r := serve(t, Config{API: &fakeAPI{}})
	unknown := unwrapRequest(2, 10)
	unknown.Items[1].ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	tooLong := unwrapRequest(64, 64<<10)
	if size := proto.Size(tooLong); size <= wire.MaxMessageBytes || size >= hardLimit {
		t.Fatalf("a request of %d bytes tests nothing", size)
	}
	for name, test := range map[string]struct {
		request *kmsv1.UnwrapDataKeysRequest
		want    error
		field   string
	}{
		"no items":       {unwrapRequest(0, 0), kms.ErrInvalidRequest, "items"},
		"4097 items":     {unwrapRequest(kms.MaxItems+1, 1), kms.ErrLimitExceeded, "items"},
		"too many items": {unwrapRequest(100_000, 0), kms.ErrLimitExceeded, ""},
		"unknown field":  {unknown, kms.ErrInvalidRequest, "items[1].99"},
		"bad name":       {&kmsv1.UnwrapDataKeysRequest{Parent: "shop", Items: unwrapRequest(1, 1).Items}, kms.ErrInvalidRequest, "parent"},
		"too many bytes": {tooLong, kms.ErrLimitExceeded, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.crypto().UnwrapDataKeys(t.Context(), test.request)
			var e *kms.Error
			if err = wire.FromStatus(err); !errors.As(err, &e) || !errors.Is(err, test.want) {
				t.Fatalf("%v, want %v", err, test.want)
			}
			if test.field != "" && (len(e.Violations) != 1 || e.Violations[0].Field != test.field) {
				t.Errorf("violations %v, want %s", e.Violations, test.field)
			}
		})
	}
	// Beyond the transport's own limit it is the transport that refuses.
	_, err := r.crypto().UnwrapDataKeys(t.Context(), unwrapRequest(150, 64<<10))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request of 9 MiB: %v", err)
	}
}

func TestLongestRequestIsServed(t *testing.T) {
	r := serve(t, Config{API: &fakeAPI{
		unwrap: func(_ context.Context, _ kms.Principal, r *kms.UnwrapDataKeysRequest) ([]kms.DataKeyResult, error) {
			return make([]kms.DataKeyResult, len(r.Items)), nil
		},
	}})
	m := unwrapRequest(1, 0)
	m.Items[0].WrappedDataKey = make([]byte, wire.MaxMessageBytes-64)
	m.AdditionalAuthenticatedData = make([]byte, wire.MaxMessageBytes-proto.Size(m)-2)
	if size := proto.Size(m); size != wire.MaxMessageBytes {
		t.Fatalf("%d bytes", size)
	}
	response, err := r.crypto().UnwrapDataKeys(t.Context(), m)
	if err != nil || len(response.GetResults()) != 1 {
		t.Errorf("%v, %v", response, err)
	}
}

// Messages that are larger than a stream's window get through one connection, many at once and
// each to its own caller, though some callers give up and answers of others are not read.
func TestLargeMessagesAtOnce(t *testing.T) {
	r := serve(t, Config{API: &fakeAPI{
		unwrap: func(_ context.Context, _ kms.Principal, r *kms.UnwrapDataKeysRequest) ([]kms.DataKeyResult, error) {
			return []kms.DataKeyResult{{DataKey: bytes.Clone(r.Items[0].Wrapped)}}, nil
		},
		backup: func(_ context.Context, w io.Writer) (*kms.StoreReport, error) {
			_, err := w.Write(make([]byte, 16<<20))
			return &kms.StoreReport{}, err
		},
	}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 8 {
		stream, err := r.system().BackupStore(ctx, &kmsv1.BackupStoreRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil { // and then no more
			t.Fatal(err)
		}
	}
	var group sync.WaitGroup
	for caller := range 16 {
		m := unwrapRequest(1, 0)
		m.Items[0].WrappedDataKey = bytes.Repeat([]byte{byte(caller)}, wire.MaxMessageBytes-64)
		group.Go(func() {
			hasty, cancel := context.WithTimeout(ctx, time.Duration(caller)*time.Millisecond)
			_, err := r.crypto().UnwrapDataKeys(hasty, m)
			cancel()
			if err != nil && status.Code(err) != codes.DeadlineExceeded {
				t.Error(err)
			}
			response, err := r.crypto().UnwrapDataKeys(ctx, m)
			if err != nil || !bytes.Equal(response.GetResults()[0].GetDataKey(), m.GetItems()[0].GetWrappedDataKey()) {
				t.Errorf("caller %d: another answer, %v", caller, err)
			}
		})
	}
	group.Wait()
}

func TestOverload(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	calls := 0
	r := serve(t, Config{MaxInFlight: 1, API: &fakeAPI{
		random: func(context.Context, int) (kms.Secret, error) {
			calls++
			begun <- struct{}{}
			<-release
			return kms.Secret("x"), nil
		},
	}})
	first := make(chan error, 1)
	go func() {
		_, err := r.crypto().GenerateRandom(context.Background(), &kmsv1.GenerateRandomRequest{Size: 1})
		first <- err
	}()
	<-begun

	_, err := r.crypto().GenerateRandom(t.Context(), &kmsv1.GenerateRandomRequest{Size: 1})
	if status.Code(err) != codes.ResourceExhausted || !errors.Is(wire.FromStatus(err), kms.ErrOverloaded) {
		t.Errorf("the second request: %v", err)
	}
	if delay, ok := wire.RetryDelay(err); !ok || delay <= 0 {
		t.Errorf("retry after %v, %v", delay, ok)
	}
	// Health checks are not refused: an overloaded server is not a dead one.
	if _, err := healthv1.NewHealthClient(r.conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}

	close(release)
	if err := <-first; err != nil {
		t.Errorf("the first request: %v", err)
	}
	go func() { <-begun }()
	if _, err := r.crypto().GenerateRandom(t.Context(), &kmsv1.GenerateRandomRequest{Size: 1}); err != nil {
		t.Errorf("after the first: %v", err)
	}
	if calls != 2 {
		t.Errorf("the API was asked %d times, want 2", calls)
	}
}

func TestDeadline(t *testing.T) {
	var seen time.Time
	wait := false
	r := serve(t, Config{MaxDeadline: 100 * time.Millisecond, API: &fakeAPI{
		random: func(ctx context.Context, _ int) (kms.Secret, error) {
			seen, _ = ctx.Deadline()
			if wait {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return kms.Secret("x"), nil
		},
	}})
	// Without a deadline, or with a later one, the server's holds.
	before := time.Now()
	if _, err := r.crypto().GenerateRandom(t.Context(), &kmsv1.GenerateRandomRequest{}); err != nil {
		t.Fatal(err)
	}
	if after := time.Now(); seen.Before(before) || seen.After(after.Add(100*time.Millisecond)) {
		t.Errorf("deadline %v, the call was made between %v and %v", seen, before, after)
	}
	late, cancelLate := context.WithTimeout(t.Context(), time.Hour)
	defer cancelLate()
	if _, err := r.crypto().GenerateRandom(late, &kmsv1.GenerateRandomRequest{}); err != nil {
		t.Fatal(err)
	}
	if after := time.Now(); seen.After(after.Add(100 * time.Millisecond)) {
		t.Errorf("deadline %v, the call was over at %v", seen, after)
	}
	wait = true
	_, err := r.crypto().GenerateRandom(t.Context(), &kmsv1.GenerateRandomRequest{})
	if status.Code(err) != codes.DeadlineExceeded || !errors.Is(wire.FromStatus(err), context.DeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
}

// TestEarlierDeadline: the caller's own holds if it is the earlier one.
func TestEarlierDeadline(t *testing.T) {
	var seen time.Time
	r := serve(t, Config{MaxDeadline: time.Hour, API: &fakeAPI{
		random: func(ctx context.Context, _ int) (kms.Secret, error) {
			seen, _ = ctx.Deadline()
			return kms.Secret("x"), nil
		},
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if _, err := r.crypto().GenerateRandom(ctx, &kmsv1.GenerateRandomRequest{}); err != nil {
		t.Fatal(err)
	}
	if after := time.Now(); seen.IsZero() || seen.After(after.Add(10*time.Minute)) {
		t.Errorf("deadline %v, the call was over at %v", seen, after)
	}
}

func TestNobodyIsServed(t *testing.T) {
	for name, creds := range map[string]credentials.TransportCredentials{
		"without an identity": insecure.NewCredentials(),
		"expired":             authenticated(time.Now().Add(-time.Minute)),
	} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, Config{API: &fakeAPI{}, Credentials: creds})
			_, err := r.crypto().GenerateRandom(t.Context(), &kmsv1.GenerateRandomRequest{Size: 1})
			if status.Code(err) != codes.Unauthenticated || !errors.Is(wire.FromStatus(err), kms.ErrUnauthenticated) {
				t.Errorf("random: %v", err)
			}
			_, err = healthv1.NewHealthClient(r.conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
			if status.Code(err) != codes.Unauthenticated {
				t.Errorf("health: %v", err)
			}
			watch, err := healthv1.NewHealthClient(r.conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); status.Code(err) != codes.Unauthenticated {
				t.Errorf("watch: %v", err)
			}
		})
	}
}

// A page of keys with many labels does not fit into a message; nothing is lost by it.
func TestPagesThatDoNotFitAreMadeSmaller(t *testing.T) {
	labels := make(map[string]string)
	for i := range kms.MaxLabels {
		labels[fmt.Sprintf("%063d", i)] = strings.Repeat("v", 63)
	}
	const total = kms.MaxPageSize
	var asked []int
	api := &fakeAPI{listKeys: func(page kms.Page) (*kms.KeyList, error) {
		asked = append(asked, page.Size)
		from := len(page.Token) // a token is as long as its offset
		list := &kms.KeyList{}
		for i := from; i < min(from+page.Size, total); i++ {
			list.Keys = append(list.Keys, &kms.KeyInfo{Key: kms.Key{Name: key(t), Labels: labels, Revision: kms.Revision(i + 1)}})
		}
		if end := from + len(list.Keys); end < total {
			list.NextToken = strings.Repeat("x", end)
		}
		return list, nil
	}}
	r := serve(t, Config{API: api})
	var etags []string
	for token := ""; ; {
		page, err := r.keys().ListKeys(t.Context(),
			&kmsv1.ListKeysRequest{Parent: "namespaces/shop", PageSize: total, PageToken: token},
			grpc.MaxCallRecvMsgSize(wire.MaxMessageBytes+5))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.GetKeys() {
			etags = append(etags, k.GetEtag())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if len(etags) != total || etags[0] != "r1" || etags[total-1] != fmt.Sprintf("r%d", total) {
		t.Errorf("%d keys came, asked as %v", len(etags), asked)
	}
	if asked[0] != total || asked[1] != total/2 {
		t.Errorf("pages asked for: %v", asked)
	}
}

func TestConfig(t *testing.T) {
	good := Config{API: &fakeAPI{}, Credentials: authenticated(time.Time{}), Logger: slog.New(slog.DiscardHandler)}
	server, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.grpc.Stop)
	for name, spoil := range map[string]func(*Config){
		"no API":             func(c *Config) { c.API = nil },
		"no credentials":     func(c *Config) { c.Credentials = nil },
		"no logger":          func(c *Config) { c.Logger = nil },
		"negative in flight": func(c *Config) { c.MaxInFlight = -1 },
		"negative deadline":  func(c *Config) { c.MaxDeadline = -1 },
		"negative drain":     func(c *Config) { c.DrainTimeout = -1 },
		"negative stream":    func(c *Config) { c.MaxStreamDeadline = -1 },
		"negative restore":   func(c *Config) { c.MaxRestoreBytes = -1 },
	} {
		bad := good
		spoil(&bad)
		if _, err := New(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
