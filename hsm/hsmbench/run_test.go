package hsmbench_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmbench"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// brief measures one call of each, or a few.
var brief = hsmbench.Config{Duration: time.Microsecond, Callers: []int{1, 3}}

// kind is what identifies a figure.
type kind struct {
	Operation             string
	Bytes, Items, Callers int
}

func kinds(figures []hsmbench.Figure) []kind {
	all := make([]kind, len(figures))
	for i, f := range figures {
		all[i] = kind{f.Operation, f.Bytes, f.Items, f.Callers}
	}
	return all
}

// kindsOfBlocks, kindsOfGCM and kindsOfOthers are the figures that brief gives.
func kindsOfBlocks(bytes, items int) []kind {
	return []kind{{"encrypt_blocks", bytes, items, 1}, {"encrypt_blocks", bytes, items, 3}}
}

func kindsOfGCM() (all []kind) {
	for _, batch := range []int{1, 64} {
		all = append(all, kind{"gcm_seal", 32, batch, 1}, kind{"gcm_seal", 32, batch, 3},
			kind{"gcm_open", 32, batch, 1}, kind{"gcm_open", 32, batch, 3})
	}
	return all
}

func kindsOfSigning() (all []kind) {
	for _, name := range []string{"sign_p256", "sign_ed25519", "sign_rsa2048", "mac_sha256"} {
		all = append(all, kind{name, 32, 1, 1}, kind{name, 32, 1, 3})
	}
	return all
}

func kindsOfOthers() []kind {
	return []kind{{"random", 32, 1, 1}, {"random", 32, 1, 3}, {"generate_key", 0, 1, 1}, {"destroy_key", 0, 1, 1}}
}

// objects are the keys in the token.
func objects(t *testing.T, memory *hsmtest.Memory) []hsm.Object {
	t.Helper()
	token := memory.Open()
	defer token.Close()
	keys, err := token.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestOperations: only what is asked for is measured, and only keys for that are made.
func TestOperations(t *testing.T) {
	memory := hsmtest.NewMemory(hsmtest.MemoryConfig{})
	token := memory.Open()
	defer token.Close()
	for _, name := range hsmbench.Operations() {
		config := brief
		config.Operations = []string{name}
		report, err := hsmbench.Run(t.Context(), token, config)
		if err != nil || len(report.Figures) == 0 {
			t.Errorf("%s: %d figures, %v", name, len(report.Figures), err)
			continue
		}
		for _, f := range report.Figures {
			checkFigure(t, f)
			if f.Operation != name {
				t.Errorf("%s was measured, not only %s", f.Operation, name)
			}
		}
	}
	if left := objects(t, memory); len(left) != 0 {
		t.Errorf("%d keys are left", len(left))
	}
}

func TestOperationsThatAreNone(t *testing.T) {
	token := hsmtest.NewMemory(hsmtest.MemoryConfig{Specs: []hsm.KeySpec{hsm.AES256Blocks}}).Open()
	defer token.Close()
	for name, want := range map[string]error{
		"sign": hsm.ErrArgument, "": hsm.ErrArgument, hsmbench.OperationSignP256: hsm.ErrUnsupported,
	} {
		config := brief
		config.Operations = []string{hsmbench.OperationRandom, name}
		if report, err := hsmbench.Run(t.Context(), token, config); report != nil || !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name   string
		memory hsmtest.MemoryConfig
		want   []kind
	}{
		{"everything", hsmtest.MemoryConfig{}, slices.Concat(
			kindsOfBlocks(32, 1), kindsOfBlocks(1024, 32), kindsOfBlocks(32768, 1024), kindsOfGCM(), kindsOfSigning(), kindsOfOthers())},
		{"a small buffer", hsmtest.MemoryConfig{MaxBlockBytes: 2048}, slices.Concat(
			kindsOfBlocks(32, 1), kindsOfBlocks(1024, 32), kindsOfBlocks(2048, 64), kindsOfGCM(), kindsOfSigning(), kindsOfOthers())},
		{"the smallest buffer", hsmtest.MemoryConfig{MaxBlockBytes: 32}, slices.Concat(
			kindsOfBlocks(32, 1), kindsOfGCM(), kindsOfSigning(), kindsOfOthers())},
		{"no GCM", hsmtest.MemoryConfig{Specs: []hsm.KeySpec{hsm.AES256Blocks}}, slices.Concat(
			kindsOfBlocks(32, 1), kindsOfBlocks(1024, 32), kindsOfBlocks(32768, 1024), kindsOfOthers())},
		{"neither session keys nor lists of mechanisms", hsmtest.MemoryConfig{NoSessionKeys: true, NoAllowedMechanisms: true},
			slices.Concat(kindsOfBlocks(32, 1), kindsOfBlocks(1024, 32), kindsOfBlocks(32768, 1024), kindsOfGCM(), kindsOfSigning(), kindsOfOthers())},
	} {
		t.Run(tt.name, func(t *testing.T) {
			memory := hsmtest.NewMemory(tt.memory)
			token := memory.Open()
			defer token.Close()
			if _, err := token.GenerateKey(t.Context(), hsm.UID{1}, "keyholt:store:1", hsm.AES256Blocks); err != nil {
				t.Fatal(err)
			}
			before := objects(t, memory)

			var measured []hsmbench.Figure
			config := brief
			config.Measured = func(f hsmbench.Figure) { measured = append(measured, f) }
			report, err := hsmbench.Run(t.Context(), token, config)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, kinds(report.Figures)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(report.Figures, measured); diff != "" {
				t.Error(diff)
			}
			for _, f := range report.Figures {
				checkFigure(t, f)
			}
			if diff := cmp.Diff(hsmbench.Describe(token.Info()), report.Token); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, objects(t, memory)); diff != "" {
				t.Errorf("the token's keys are others: %s", diff)
			}
		})
	}
}

// checkFigure checks what holds however fast the machine is.
func checkFigure(t *testing.T, f hsmbench.Figure) {
	t.Helper()
	if f.Calls < int64(f.Callers) || f.Elapsed <= 0 || f.P50 <= 0 || f.P99 < f.P50 {
		t.Errorf("%+v", f)
	}
	if least := float64(f.Calls) / f.Elapsed.Seconds(); f.CallsPerSecond < least*(1-1e-9) {
		t.Errorf("%g calls a second, at least %g: %+v", f.CallsPerSecond, least, f)
	}
	if f.ItemsPerSecond != f.CallsPerSecond*float64(f.Items) {
		t.Errorf("items do not fit calls: %+v", f)
	}
}

// TestRunFails: whatever fails, the scratch keys are gone afterwards.
func TestRunFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(*hsmtest.Faults)
	}{
		{"the enumeration", func(f *hsmtest.Faults) { f.FailBefore(hsmtest.MethodKeys, hsm.ErrUnavailable) }},
		{"the first key", func(f *hsmtest.Faults) { f.FailBefore(hsmtest.MethodGenerateKey, hsm.ErrUnavailable, 1) }},
		{"the first key, which is made", func(f *hsmtest.Faults) { f.FailAfter(hsmtest.MethodGenerateKey, hsm.ErrUnavailable, 1) }},
		{"the second key", func(f *hsmtest.Faults) { f.FailAfter(hsmtest.MethodGenerateKey, hsm.ErrUnavailable, 2) }},
		{"a measured key", func(f *hsmtest.Faults) { f.FailAfter(hsmtest.MethodGenerateKey, hsm.ErrUnavailable, 5) }},
		{"the trial of the length", func(f *hsmtest.Faults) { f.FailBefore(hsmtest.MethodEncryptBlocks, hsm.ErrUnavailable, 1) }},
		{"blocks", func(f *hsmtest.Faults) { f.FailBefore(hsmtest.MethodEncryptBlocks, hsm.ErrUnavailable, 9) }},
		{"sealing", func(f *hsmtest.Faults) { f.FailBefore(hsmtest.MethodSeal, hsm.ErrUnavailable, 3) }},
		{"sealing what is opened", func(f *hsmtest.Faults) {
			f.Hook(hsmtest.MethodOpen, func(context.Context, hsmtest.Call) error {
				f.FailBefore(hsmtest.MethodSeal, hsm.ErrUnavailable)
				return nil
			})
		}},
		{"opening", func(f *hsmtest.Faults) { f.FailBefore(hsmtest.MethodOpen, hsm.ErrUnavailable, 3) }},
		{"random numbers", func(f *hsmtest.Faults) { f.FailBefore(hsmtest.MethodRandom, hsm.ErrUnavailable, 3) }},
		{"destroying a measured key", func(f *hsmtest.Faults) { f.FailBefore(hsmtest.MethodDestroyKey, hsm.ErrUnavailable, 3) }},
		{"destroying one, which is gone", func(f *hsmtest.Faults) { f.FailAfter(hsmtest.MethodDestroyKey, hsm.ErrUnavailable, 3) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			memory := hsmtest.NewMemory(hsmtest.MemoryConfig{})
			token := hsmtest.NewFaults(memory.Open())
			defer token.Close()
			tt.fail(token)
			if report, err := hsmbench.Run(t.Context(), token, brief); !errors.Is(err, hsm.ErrUnavailable) || report != nil {
				t.Fatalf("report %v, error %v", report, err)
			}
			if keys := objects(t, memory); len(keys) != 0 {
				t.Errorf("left in the token: %+v", keys)
			}
		})
	}
}

// TestRunCancelled: the keys go also when the measurement is broken off.
func TestRunCancelled(t *testing.T) {
	memory := hsmtest.NewMemory(hsmtest.MemoryConfig{})
	token := hsmtest.NewFaults(memory.Open())
	defer token.Close()
	ctx, cancel := context.WithCancel(t.Context())
	token.Hook(hsmtest.MethodOpen, func(context.Context, hsmtest.Call) error {
		cancel()
		return nil
	})
	if _, err := hsmbench.Run(ctx, token, brief); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if keys := objects(t, memory); len(keys) != 0 {
		t.Errorf("left in the token: %+v", keys)
	}
}

// TestLeftovers: keys that cannot be destroyed are named in the error, and by the next
// measurement, which leaves them alone.
func TestLeftovers(t *testing.T) {
	memory := hsmtest.NewMemory(hsmtest.MemoryConfig{})
	token := hsmtest.NewFaults(memory.Open())
	defer token.Close()
	token.FailBefore(hsmtest.MethodDestroyKey, hsm.ErrUnavailable)
	_, failed := hsmbench.Run(t.Context(), token, brief)
	left := objects(t, memory)
	if len(left) != 14 || failed == nil { // six keys to compute with, eight to generate
		t.Fatalf("%d keys are left (%v)", len(left), failed)
	}
	token.Clear()
	report, err := hsmbench.Run(t.Context(), token, brief)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]bool)
	for _, object := range left {
		want[object.UID.String()] = true
		if !strings.Contains(failed.Error(), object.UID.String()) {
			t.Errorf("the error does not name %s: %v", object.UID, failed)
		}
		if !strings.HasPrefix(object.Label, "keyholt-bench:") {
			t.Errorf("label %q", object.Label)
		}
	}
	for _, leftover := range report.Leftovers {
		if !want[leftover.UID] || leftover.Label == "" {
			t.Errorf("no leftover: %+v", leftover)
		}
		delete(want, leftover.UID)
	}
	if len(want) != 0 {
		t.Errorf("not reported: %v", want)
	}
	if now := objects(t, memory); len(now) != len(left) {
		t.Errorf("%d keys are left, before %d", len(now), len(left))
	}
}

// TestShorterBlocks: a length that the token turns out to refuse is not measured.
func TestShorterBlocks(t *testing.T) {
	token := &shortening{Token: hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open(), most: 32768}
	defer token.Close()
	report, err := hsmbench.Run(t.Context(), token, brief)
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(report.Figures)[4]; got != (kind{"encrypt_blocks", 4096, 128, 1}) {
		t.Errorf("%+v", got)
	}
	if report.Token.MaxBlockBytes != 4096 {
		t.Errorf("the token takes %d bytes", report.Token.MaxBlockBytes)
	}
}

// shortening is a token that learns at the first call that its module takes less.
type shortening struct {
	hsm.Token
	most int
}

func (s *shortening) Info() hsm.Info {
	info := s.Token.Info()
	info.MaxBlockBytes = s.most
	return info
}

func (s *shortening) EncryptBlocks(ctx context.Context, key hsm.UID, dst, src []byte) error {
	if len(src) > 4096 {
		s.most = 4096
	}
	return s.Token.EncryptBlocks(ctx, key, dst, src)
}

func TestArguments(t *testing.T) {
	memory := hsmtest.NewMemory(hsmtest.MemoryConfig{})
	token := memory.Open()
	defer token.Close()
	for _, c := range []hsmbench.Config{
		{Callers: []int{1}}, {Duration: -1, Callers: []int{1}}, {Duration: 1}, {Duration: 1, Callers: []int{1, 0}},
	} {
		if _, err := hsmbench.Run(t.Context(), token, c); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestDefaultCallers(t *testing.T) {
	for sessions, want := range map[int][]int{1: {1}, 2: {1, 2}, 3: {1, 2, 3}, 12: {1, 2, 12}} {
		if got := hsmbench.DefaultCallers(sessions); !slices.Equal(got, want) {
			t.Errorf("%d sessions: %v", sessions, got)
		}
	}
}

// TestJSON: what other programs read has no null where a list belongs, and comes back.
func TestJSON(t *testing.T) {
	token := hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open()
	defer token.Close()
	report, err := hsmbench.Run(t.Context(), token, brief)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(report)
	if err != nil || strings.Contains(string(text), "null") {
		t.Fatalf("%v: %s", err, text)
	}
	var back hsmbench.Report
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*report, back); diff != "" {
		t.Error(diff)
	}
}
