package wire

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// fieldsOf are the fields that an invalid request names.
func fieldsOf(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var e *kms.Error
	if !errors.As(err, &e) || !errors.Is(err, kms.ErrInvalidRequest) {
		t.Fatalf("%v is not an invalid request", err)
	}
	fields := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		fields[i] = v.Field
		if v.Description == "" {
			t.Errorf("%s is wrong for no reason", v.Field)
		}
	}
	slices.Sort(fields)
	return fields
}

// The violations of a request are told all together.
func TestViolations(t *testing.T) {
	bad := "keys/orders"
	key := aKey().String()
	for name, test := range map[string]struct {
		err  error
		want []string
	}{
		"CreateNamespace":        {errorOf(DecodeCreateNamespaceRequest(&kmsv1.CreateNamespaceRequest{NamespaceId: "UPPER"})), []string{"namespace_id"}},
		"CreateNamespace, empty": {errorOf(DecodeCreateNamespaceRequest(&kmsv1.CreateNamespaceRequest{})), []string{"namespace_id"}},
		"GetNamespace":           {errorOf(DecodeGetNamespaceRequest(&kmsv1.GetNamespaceRequest{Name: bad})), []string{"name"}},
		"CreateKey, empty":       {errorOf(DecodeCreateKeyRequest(&kmsv1.CreateKeyRequest{})), []string{"key_id", "parent"}},
		"CreateKey, bad names":   {errorOf(DecodeCreateKeyRequest(&kmsv1.CreateKeyRequest{Parent: bad, KeyId: "a/b"})), []string{"key_id", "parent"}},
		"GetKey":                 {errorOf(DecodeGetKeyRequest(&kmsv1.GetKeyRequest{Name: bad})), []string{"name"}},
		"GetKey of a version":    {errorOf(DecodeGetKeyRequest(&kmsv1.GetKeyRequest{Name: key + "/versions/1"})), []string{"name"}},
		"GetKeyVersion":          {errorOf(DecodeGetKeyVersionRequest(&kmsv1.GetKeyVersionRequest{Name: key + "/versions/0"})), []string{"name"}},
		"Revoke":                 {errorOf(DecodeRevokeKeyVersionRequest(&kmsv1.RevokeKeyVersionRequest{Name: key + "/versions/01"})), []string{"name"}},
		"SetPrimary":             {errorOf(DecodeSetPrimaryKeyVersionRequest(&kmsv1.SetPrimaryKeyVersionRequest{Name: key})), []string{"name"}},
		"Restrict":               {errorOf3(DecodeRestrictKeyVersionRequest(&kmsv1.RestrictKeyVersionRequest{Name: bad})), []string{"name"}},
		"Restore":                {errorOf3(DecodeRestoreKeyVersionRequest(&kmsv1.RestoreKeyVersionRequest{})), []string{"name"}},
		"ScheduleDestruction": {errorOf(DecodeScheduleKeyVersionDestructionRequest(&kmsv1.ScheduleKeyVersionDestructionRequest{
			Window: &durationpb.Duration{Seconds: -1},
		})), []string{"name", "window"}},
		"ScheduleDestruction at once": {errorOf(DecodeScheduleKeyVersionDestructionRequest(&kmsv1.ScheduleKeyVersionDestructionRequest{
			Name: key + "/versions/1", Window: &durationpb.Duration{},
		})), []string{"window"}},
		"ScheduleOrphanDestruction": {errorOf(DecodeScheduleOrphanDestructionRequest(&kmsv1.ScheduleOrphanDestructionRequest{
			Uids: []string{"", strings.Repeat("0", 32), "0x"}, Window: &durationpb.Duration{Nanos: -1},
		})), []string{"uids[0]", "uids[2]", "window"}},
		"RestoreStore without options": {errorOf(DecodeRestoreOptions(EncodeRestoreChunk([]byte("x")))), []string{"options"}},
		"RestoreStore, options twice":  {errorOf(DecodeRestoreChunk(EncodeRestoreOptions(&kms.RestoreStoreRequest{}))), []string{"chunk"}},
		"RestoreStore, nothing":        {errorOf(DecodeRestoreChunk(&kmsv1.RestoreStoreRequest{})), []string{"chunk"}},
		"Encrypt":                      {errorOf(DecodeEncryptRequest(&kmsv1.EncryptRequest{})), []string{"key"}},
		"Decrypt":                      {errorOf(DecodeDecryptRequest(&kmsv1.DecryptRequest{Key: bad})), []string{"key", "parent"}},
		"ReEncrypt":                    {errorOf(DecodeReEncryptRequest(&kmsv1.ReEncryptRequest{SourceKey: bad, DestinationKey: bad})), []string{"destination_key", "parent", "source_key"}},
		"GenerateDataKeys":             {errorOf(DecodeGenerateDataKeysRequest(&kmsv1.GenerateDataKeysRequest{})), []string{"key"}},
		"WrapDataKeys, empty":          {errorOf(DecodeWrapDataKeysRequest(&kmsv1.WrapDataKeysRequest{})), []string{"items", "parent"}},
		"UnwrapDataKeys, no item":      {errorOf(DecodeUnwrapDataKeysRequest(&kmsv1.UnwrapDataKeysRequest{Parent: "namespaces/shop"})), []string{"items"}},
		"RewrapDataKeys":               {errorOf(DecodeRewrapDataKeysRequest(&kmsv1.RewrapDataKeysRequest{Key: bad})), []string{"items", "key", "parent"}},
	} {
		if diff := cmp.Diff(test.want, fieldsOf(t, test.err)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func errorOf3[A, B any](_ A, _ B, err error) error { return err }

func TestCreateKeyRefusesWhatIsNotTheCallers(t *testing.T) {
	m := &kmsv1.CreateKeyRequest{
		Parent: aNamespace().String(),
		KeyId:  "orders",
		Key: &kmsv1.Key{
			Name:              aKey().String(),
			Purpose:           99,
			Algorithm:         98,
			ProtectionProfile: -1,
			RotationPeriod:    &durationpb.Duration{Seconds: 1, Nanos: -1},
			PrimaryVersion:    aKey().Version(1).String(),
			PrimaryState:      kmsv1.KeyVersionState_KEY_VERSION_STATE_ENABLED,
			VersionCount:      1,
			CreateTime:        &timestamppb.Timestamp{},
			RotateTime:        &timestamppb.Timestamp{},
			Etag:              "r1",
			NextRotationTime:  &timestamppb.Timestamp{},
		},
	}
	want := []string{
		"key.algorithm", "key.create_time", "key.etag", "key.name", "key.next_rotation_time", "key.primary_state", "key.primary_version",
		"key.protection_profile", "key.purpose", "key.rotate_time", "key.rotation_period", "key.version_count",
	}
	_, err := DecodeCreateKeyRequest(m)
	if diff := cmp.Diff(want, fieldsOf(t, err)); diff != "" {
		t.Error(diff)
	}
	for _, key := range []*kmsv1.Key{nil, {}} {
		m.Key = key
		r, err := DecodeCreateKeyRequest(m)
		if err != nil || r.Purpose != 0 || r.Algorithm != 0 || r.Profile != 0 || r.RotationPeriod != 0 {
			t.Errorf("defaults: %+v, %v", r, err)
		}
	}
}

func TestDurationsBeyondGoAreRefused(t *testing.T) {
	longest := int64(math.MaxInt64 / time.Second)
	for seconds, ok := range map[int64]bool{
		1: true, -1: true, longest: true, longest + 1: false, -longest - 2: false, 315_576_000_000: false, math.MaxInt64: false,
	} {
		d := decoder{}
		got := d.duration("period", &durationpb.Duration{Seconds: seconds})
		if (d.err() == nil) != ok || ok && got != time.Duration(seconds)*time.Second {
			t.Errorf("%d seconds: %v, %v", seconds, got, d.err())
		}
	}
}

func TestUpdateMask(t *testing.T) {
	m := &kmsv1.UpdateKeyRequest{Key: &kmsv1.Key{
		Name: aKey().String(), Etag: "r3", Labels: map[string]string{"a": "b"}, RotationPeriod: durationpb.New(time.Hour),
		PrimaryVersion: aKey().Version(1).String(), // as it was read: not in the mask, so it means nothing
	}}
	for name, test := range map[string]struct {
		mask           []string
		fields         []string
		labels, period bool
	}{
		"labels":            {[]string{"labels"}, nil, true, false},
		"period":            {[]string{"rotation_period"}, nil, false, true},
		"both":              {[]string{"labels", "rotation_period"}, nil, true, true},
		"missing":           {nil, []string{"update_mask"}, false, false},
		"everything":        {[]string{"*"}, []string{"update_mask"}, false, false},
		"inside labels":     {[]string{"labels.a"}, []string{"update_mask"}, false, false},
		"something else":    {[]string{"labels", "purpose"}, []string{"update_mask"}, true, false},
		"other field's key": {[]string{"key.labels"}, []string{"update_mask"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			m.UpdateMask = &fieldmaskpb.FieldMask{Paths: test.mask}
			r, err := DecodeUpdateKeyRequest(m)
			if diff := cmp.Diff(test.fields, fieldsOf(t, err)); diff != "" {
				t.Fatal(diff)
			}
			if (r.Labels != nil) != test.labels || (r.RotationPeriod != nil) != test.period || r.Etag != "r3" {
				t.Errorf("%+v", r)
			}
		})
	}
	_, err := DecodeUpdateKeyRequest(&kmsv1.UpdateKeyRequest{})
	if diff := cmp.Diff([]string{"key.name", "update_mask"}, fieldsOf(t, err)); diff != "" {
		t.Error(diff)
	}
}

func TestMalformedItemsFailAlone(t *testing.T) {
	r, err := DecodeWrapDataKeysRequest(&kmsv1.WrapDataKeysRequest{
		Parent: aNamespace().String(),
		Items: []*kmsv1.WrapDataKeysRequest_Item{
			{DataKey: []byte("0"), Key: aKey().String()},
			{DataKey: []byte("1"), Key: "nonsense", Binding: &kmsv1.Binding{}},
			{DataKey: []byte("2"), Key: aKey().String(), Binding: &kmsv1.Binding{AdditionalAuthenticatedData: []byte("x")}},
			nil,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, item := range r.Items {
		if i == 1 {
			if diff := cmp.Diff([]string{"items[1].key"}, fieldsOf(t, item.Invalid)); diff != "" {
				t.Error(diff)
			}
			continue
		}
		if item.Invalid != nil || i != 3 && item.Key != aKey() {
			t.Errorf("item %d: %+v", i, item)
		}
	}
	if b := r.Items[2].Binding; b == nil || string(b.AAD) != "x" {
		t.Errorf("binding of item 2: %+v", b)
	}
}

func TestTooManyItems(t *testing.T) {
	wrap := slab[kmsv1.WrapDataKeysRequest_Item](kms.MaxItems + 1)
	unwrap := slab[kmsv1.UnwrapDataKeysRequest_Item](kms.MaxItems + 1)
	rewrap := slab[kmsv1.RewrapDataKeysRequest_Item](kms.MaxItems + 1)
	for name, err := range map[string]error{
		"WrapDataKeys":          errorOf(DecodeWrapDataKeysRequest(&kmsv1.WrapDataKeysRequest{Items: wrap})),
		"UnwrapDataKeys":        errorOf(DecodeUnwrapDataKeysRequest(&kmsv1.UnwrapDataKeysRequest{Items: unwrap})),
		"RewrapDataKeys":        errorOf(DecodeRewrapDataKeysRequest(&kmsv1.RewrapDataKeysRequest{Items: rewrap})),
		"WrapDataKeys, check":   Check(&kmsv1.WrapDataKeysRequest{Items: wrap}),
		"UnwrapDataKeys, check": Check(&kmsv1.UnwrapDataKeysRequest{Items: unwrap}),
		"ScheduleOrphanDestruction": errorOf(DecodeScheduleOrphanDestructionRequest(
			&kmsv1.ScheduleOrphanDestructionRequest{Uids: make([]string, kms.MaxItems+1)})),
		"RewrapDataKeys, check": Check(&kmsv1.RewrapDataKeysRequest{Items: rewrap}),
	} {
		var e *kms.Error
		if !errors.As(err, &e) || !errors.Is(err, kms.ErrLimitExceeded) || (e.Violations[0].Field != "items" && e.Violations[0].Field != "uids") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Check(&kmsv1.WrapDataKeysRequest{Items: wrap[1:]}); err != nil {
		t.Error(err)
	}
}

// A batch costs a handful of allocations, however many items it has.
func TestNothingIsAllocatedPerItem(t *testing.T) {
	request := &kms.UnwrapDataKeysRequest{Parent: aNamespace(), Key: aKey(), Items: make([]kms.DataKeyItem, kms.MaxItems)}
	results := make([]kms.DataKeyResult, kms.MaxItems)
	binding := aBinding()
	refusal := &kms.Error{Sentinel: kms.ErrVersionRevoked, Metadata: map[string]string{"state_reason": "stolen"}}
	for i := range request.Items {
		request.Items[i] = kms.DataKeyItem{Wrapped: []byte("blob"), Key: aKey(), Binding: &binding}
		results[i] = kms.DataKeyResult{DataKey: []byte("key"), Version: aKey().Version(uint32(1 + i%3))}
		if i%2 == 0 {
			results[i] = kms.DataKeyResult{Version: aKey().Version(1), Err: refusal}
		}
	}
	message := EncodeUnwrapDataKeysRequest(request)
	const few = 40
	for name, work := range map[string]func(){
		"EncodeUnwrapDataKeysRequest": func() { EncodeUnwrapDataKeysRequest(request) },
		"Check":                       func() { _ = Check(message) },
		"DecodeUnwrapDataKeysRequest": func() {
			if _, err := DecodeUnwrapDataKeysRequest(message); err != nil {
				t.Fatal(err)
			}
		},
		"EncodeUnwrapDataKeysResponse": func() { EncodeUnwrapDataKeysResponse(results, nil) },
	} {
		if n := testing.AllocsPerRun(3, work); n > few {
			t.Errorf("%s makes %v allocations for %d items", name, n, kms.MaxItems)
		}
	}
}

func TestClip(t *testing.T) {
	for _, test := range []struct {
		in, want string
		most     int
	}{
		{"", "", 5}, {"abcde", "abcde", 5}, {"abcdef", "ab...", 5}, {"\u00e9\u00e9\u00e9\u00e9", "\u00e9\u00e9...", 7},
		{"a\u00e9\u00e9\u00e9", "a\u00e9...", 6}, {"\xff", "\uFFFD", 5},
	} {
		if got := clip(test.in, test.most); got != test.want {
			t.Errorf("clip(%q, %d) = %q, want %q", test.in, test.most, got, test.want)
		}
	}
	if got := clip(strings.Repeat("\xffa", 100), 20); len(got) > 20 {
		t.Errorf("%d bytes, with room for 20", len(got))
	}
}

func BenchmarkUnwrap(b *testing.B) {
	for _, n := range []int{1, 64, kms.MaxItems} {
		request := &kms.UnwrapDataKeysRequest{Parent: aNamespace(), Items: make([]kms.DataKeyItem, n)}
		results := make([]kms.DataKeyResult, n)
		for i := range results {
			request.Items[i].Wrapped = make([]byte, 92)
			results[i] = kms.DataKeyResult{DataKey: make([]byte, 32), Version: aKey().Version(1)}
		}
		message := EncodeUnwrapDataKeysRequest(request)
		perItem := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/item")
		}
		b.Run(fmt.Sprintf("check/%d", n), func(b *testing.B) {
			for b.Loop() {
				if err := Check(message); err != nil {
					b.Fatal(err)
				}
			}
			perItem(b)
		})
		b.Run(fmt.Sprintf("decode/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := DecodeUnwrapDataKeysRequest(message); err != nil {
					b.Fatal(err)
				}
			}
			perItem(b)
		})
		b.Run(fmt.Sprintf("encode/%d", n), func(b *testing.B) {
			for b.Loop() {
				EncodeUnwrapDataKeysResponse(results, nil)
			}
			perItem(b)
		})
	}
}
