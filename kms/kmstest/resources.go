package kmstest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/kms"
)

func testNamespaces(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	if _, err := api.GetNamespace(s.ctx, admin, s.namespace(kms.DefaultNamespace)); err != nil {
		t.Fatalf("the default namespace: %v", err)
	}
	made, err := api.CreateNamespace(s.ctx, admin, s.namespace("shop"))
	wantOK(t, err, "CreateNamespace")
	if made.Name != s.namespace("shop") || made.CreateTime.IsZero() {
		t.Fatalf("CreateNamespace returned %+v", made)
	}
	_, err = api.CreateNamespace(s.ctx, admin, s.namespace("shop"))
	wantError(t, err, kms.ErrNamespaceExists, "CreateNamespace again")
	_, err = api.CreateNamespace(s.ctx, admin, kms.NamespaceName{})
	wantViolation(t, err, "namespace_id", "CreateNamespace without a name")
	_, err = api.GetNamespace(s.ctx, admin, s.namespace("absent"))
	wantError(t, err, kms.ErrNamespaceNotFound, "GetNamespace of none")

	for i := range 5 {
		_, err := api.CreateNamespace(s.ctx, admin, s.namespace(fmt.Sprintf("n%d", i)))
		wantOK(t, err, "CreateNamespace")
	}
	var names []string
	for page := (kms.Page{Size: 2}); ; {
		list, err := api.ListNamespaces(s.ctx, admin, page)
		wantOK(t, err, "ListNamespaces")
		if len(list.Namespaces) > 2 {
			t.Fatalf("a page of 2 has %d", len(list.Namespaces))
		}
		for _, n := range list.Namespaces {
			names = append(names, n.Name.ID())
		}
		if page.Token = list.NextToken; page.Token == "" {
			break
		}
	}
	if got, want := strings.Join(names, " "), "default n0 n1 n2 n3 n4 shop"; got != want {
		t.Fatalf("listed %q, want %q", got, want)
	}
	_, err = api.ListNamespaces(s.ctx, admin, kms.Page{Token: "nonsense"})
	wantViolation(t, err, "page_token", "ListNamespaces with a made-up token")
	_, err = api.ListNamespaces(s.ctx, admin, kms.Page{Size: -1})
	wantViolation(t, err, "page_size", "ListNamespaces with a negative size")
}

func testCreateKey(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	made, err := api.CreateKey(s.ctx, admin, &kms.CreateKeyRequest{Name: s.key("orders")})
	wantOK(t, err, "CreateKey")
	if made.Purpose != kms.PurposeEncryptDecrypt || made.Algorithm != kms.AlgorithmAES256 || made.Profile != kms.ProfileDerived {
		t.Fatalf("defaults: %v %v %v", made.Purpose, made.Algorithm, made.Profile)
	}
	if made.Primary != 1 || made.PrimaryState != kms.StateEnabled || made.VersionCount != 1 || made.CreateTime.IsZero() {
		t.Fatalf("CreateKey returned %+v", made)
	}
	_, err = api.CreateKey(s.ctx, admin, &kms.CreateKeyRequest{Name: s.key("orders")})
	wantError(t, err, kms.ErrKeyExists, "CreateKey again")

	labels := map[string]string{"team": "billing", "tier": "1"}
	made, err = api.CreateKey(s.ctx, admin, &kms.CreateKeyRequest{
		Name: s.key("strict"), Profile: kms.ProfileStrict, Labels: labels, RotationPeriod: 90 * 24 * time.Hour,
	})
	wantOK(t, err, "CreateKey STRICT")
	got, err := api.GetKey(s.ctx, admin, s.key("strict"))
	wantOK(t, err, "GetKey")
	if got.Profile != kms.ProfileStrict || got.RotationPeriod != 90*24*time.Hour || len(got.Labels) != 2 ||
		got.Labels["team"] != "billing" || got.Revision.Etag() != made.Revision.Etag() {
		t.Fatalf("GetKey returned %+v", got)
	}
	version, err := api.GetKeyVersion(s.ctx, admin, s.key("strict").Version(1))
	wantOK(t, err, "GetKeyVersion")
	if !version.Primary || version.State != kms.StateEnabled || !version.FirstUse.IsZero() || version.Unavailable != "" {
		t.Fatalf("GetKeyVersion returned %+v", version)
	}
	_, err = api.GetKey(s.ctx, admin, s.key("absent"))
	wantError(t, err, kms.ErrKeyNotFound, "GetKey of none")
	_, err = api.GetKeyVersion(s.ctx, admin, s.key("strict").Version(2))
	wantError(t, err, kms.ErrVersionNotFound, "GetKeyVersion of none")
	_, err = api.CreateKey(s.ctx, admin, &kms.CreateKeyRequest{Name: s.keyIn("absent", "orders")})
	wantError(t, err, kms.ErrNamespaceNotFound, "CreateKey in no namespace")
}

func testCreateKeyBadFields(t *testing.T, s *suite) {
	many := make(map[string]string)
	for i := range kms.MaxLabels + 1 {
		many[fmt.Sprintf("l%d", i)] = ""
	}
	for name, test := range map[string]struct {
		request kms.CreateKeyRequest
		field   string // empty: a limit
	}{
		"no name":           {kms.CreateKeyRequest{}, "key_id"},
		"label key":         {kms.CreateKeyRequest{Name: s.key("k"), Labels: map[string]string{"Team": "x"}}, "key.labels"},
		"empty label key":   {kms.CreateKeyRequest{Name: s.key("k"), Labels: map[string]string{"": "x"}}, "key.labels"},
		"label value":       {kms.CreateKeyRequest{Name: s.key("k"), Labels: map[string]string{"team": "a b"}}, "key.labels"},
		"too many labels":   {kms.CreateKeyRequest{Name: s.key("k"), Labels: many}, ""},
		"rotation too soon": {kms.CreateKeyRequest{Name: s.key("k"), RotationPeriod: time.Millisecond}, "key.rotation_period"},
		"negative rotation": {kms.CreateKeyRequest{Name: s.key("k"), RotationPeriod: -time.Hour}, "key.rotation_period"},
		"request id":        {kms.CreateKeyRequest{Name: s.key("k"), RequestID: "7"}, "request_id"},
	} {
		_, err := s.Admin.API.CreateKey(s.ctx, s.Admin.Principal, &test.request)
		if test.field == "" {
			wantError(t, err, kms.ErrLimitExceeded, name)
			continue
		}
		wantViolation(t, err, test.field, name)
	}
	_, err := s.Admin.API.GetKey(s.ctx, s.Admin.Principal, s.key("k"))
	wantError(t, err, kms.ErrKeyNotFound, "a key that was refused")
}

func testCreateKeyRetried(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	request := &kms.CreateKeyRequest{Name: s.key("orders"), Labels: map[string]string{"a": "1"}, RequestID: uuid.NewString()}
	first, err := api.CreateKey(s.ctx, admin, request)
	wantOK(t, err, "CreateKey")
	again, err := api.CreateKey(s.ctx, admin, request)
	wantOK(t, err, "CreateKey repeated")
	if again.VersionCount != 1 || again.Revision.Etag() != first.Revision.Etag() {
		t.Fatalf("the repeated call returned %+v after %+v", again, first)
	}
	other := *request
	other.Labels = nil
	_, err = api.CreateKey(s.ctx, admin, &other)
	wantError(t, err, kms.ErrRequestIDReused, "CreateKey with the id of another request")
	other.RequestID = uuid.NewString()
	_, err = api.CreateKey(s.ctx, admin, &other)
	wantError(t, err, kms.ErrKeyExists, "CreateKey with another id")
}

func testListKeys(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	for _, id := range []string{"shop", "shop-2", "shop.x"} {
		_, err := api.CreateNamespace(s.ctx, admin, s.namespace(id))
		wantOK(t, err, "CreateNamespace")
		s.mustCreateNamed(s.keyIn(id, "only"), kms.ProfileDerived)
	}
	for _, id := range []string{"b", "a-1", "a", "a.b", "c"} {
		s.mustCreateNamed(s.keyIn("shop", id), kms.ProfileDerived)
	}
	var ids []string
	var token string
	for page := (kms.Page{Size: 2}); ; {
		list, err := api.ListKeys(s.ctx, admin, s.namespace("shop"), page)
		wantOK(t, err, "ListKeys")
		for _, k := range list.Keys {
			ids = append(ids, k.Name.ID())
		}
		if page.Token = list.NextToken; page.Token == "" {
			break
		}
		token = page.Token
	}
	if got, want := strings.Join(ids, " "), "a a-1 a.b b c only"; got != want {
		t.Fatalf("listed %q, want %q", got, want)
	}
	_, err := api.ListKeys(s.ctx, admin, s.namespace("shop-2"), kms.Page{Token: token})
	wantViolation(t, err, "page_token", "ListKeys with the token of another list")
	_, err = api.ListKeys(s.ctx, admin, s.namespace("absent"), kms.Page{})
	wantError(t, err, kms.ErrNamespaceNotFound, "ListKeys of no namespace")
}

func testUpdateKey(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	name := s.mustCreate("orders", kms.ProfileDerived)
	before, err := api.GetKey(s.ctx, admin, name)
	wantOK(t, err, "GetKey")

	labels := map[string]string{"team": "billing"}
	period := 24 * time.Hour
	after, err := api.UpdateKey(s.ctx, admin, &kms.UpdateKeyRequest{
		Name: name, Labels: &labels, RotationPeriod: &period, Etag: before.Revision.Etag(),
	})
	wantOK(t, err, "UpdateKey")
	if after.Labels["team"] != "billing" || after.RotationPeriod != period || after.Revision.Etag() == before.Revision.Etag() {
		t.Fatalf("UpdateKey returned %+v", after)
	}
	none := time.Duration(0)
	_, err = api.UpdateKey(s.ctx, admin, &kms.UpdateKeyRequest{Name: name, RotationPeriod: &none, Etag: before.Revision.Etag()})
	wantError(t, err, kms.ErrEtagMismatch, "UpdateKey with an old etag")
	after, err = api.UpdateKey(s.ctx, admin, &kms.UpdateKeyRequest{Name: name, RotationPeriod: &none})
	wantOK(t, err, "UpdateKey of the period alone")
	if after.RotationPeriod != 0 || after.Labels["team"] != "billing" {
		t.Fatalf("UpdateKey returned %+v", after)
	}
	bad := map[string]string{"Team": "x"}
	_, err = api.UpdateKey(s.ctx, admin, &kms.UpdateKeyRequest{Name: name, Labels: &bad})
	wantViolation(t, err, "key.labels", "UpdateKey with a bad label")
	_, err = api.UpdateKey(s.ctx, admin, &kms.UpdateKeyRequest{Name: s.key("absent"), Labels: &labels})
	wantError(t, err, kms.ErrKeyNotFound, "UpdateKey of none")
}

func testListVersions(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	for range 4 {
		s.mustRotate(name)
	}
	var numbers []uint32
	for page := (kms.Page{Size: 2}); ; {
		list, err := s.Admin.API.ListKeyVersions(s.ctx, s.Admin.Principal, name, page)
		wantOK(t, err, "ListKeyVersions")
		for _, v := range list.Versions {
			numbers = append(numbers, v.Name.Number())
			if v.Primary != (v.Name.Number() == 5) {
				t.Fatalf("version %d: primary %v", v.Name.Number(), v.Primary)
			}
		}
		if page.Token = list.NextToken; page.Token == "" {
			break
		}
	}
	if got := fmt.Sprint(numbers); got != "[1 2 3 4 5]" {
		t.Fatalf("listed %s", got)
	}
	_, err := s.Admin.API.ListKeyVersions(s.ctx, s.Admin.Principal, s.key("absent"), kms.Page{})
	wantError(t, err, kms.ErrKeyNotFound, "ListKeyVersions of none")
}

func testStrangers(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	ciphertext := s.mustEncrypt(name, "secret", kms.Binding{})
	wrapped := s.mustGenerate(name, 1)[0].Wrapped
	api, who := s.Stranger.API, s.Stranger.Principal
	parent := s.namespace(kms.DefaultNamespace)

	// The same words for what exists and what does not.
	_, denied := api.GetKey(s.ctx, who, name)
	wantError(t, denied, kms.ErrNotAccessible, "GetKey by a stranger")
	_, absent := api.GetKey(s.ctx, who, s.key("absent"))
	wantError(t, absent, kms.ErrNotAccessible, "GetKey of none by a stranger")
	if denied.Error() != absent.Error() {
		t.Fatalf("a stranger can tell %q from %q", denied, absent)
	}

	first := func(results []kms.DataKeyResult, err error) error {
		if err != nil || len(results) == 0 {
			return err
		}
		return results[0].Err
	}
	firstPayload := func(results []kms.PayloadResult, err error) error {
		if err != nil || len(results) == 0 {
			return err
		}
		return results[0].Err
	}
	for doing, call := range map[string]func() error{
		"CreateNamespace": func() error { _, err := api.CreateNamespace(s.ctx, who, s.namespace("x")); return err },
		"GetNamespace":    func() error { _, err := api.GetNamespace(s.ctx, who, parent); return err },
		"ListNamespaces":  func() error { _, err := api.ListNamespaces(s.ctx, who, kms.Page{}); return err },
		"CreateKey":       func() error { _, err := api.CreateKey(s.ctx, who, &kms.CreateKeyRequest{Name: s.key("x")}); return err },
		"ListKeys":        func() error { _, err := api.ListKeys(s.ctx, who, parent, kms.Page{}); return err },
		"UpdateKey": func() error {
			period := time.Hour
			_, err := api.UpdateKey(s.ctx, who, &kms.UpdateKeyRequest{Name: name, RotationPeriod: &period})
			return err
		},
		"RotateKey": func() error {
			_, err := api.RotateKey(s.ctx, who, &kms.RotateKeyRequest{Name: name})
			return err
		},
		"SetPrimaryKeyVersion": func() error {
			_, err := api.SetPrimaryKeyVersion(s.ctx, who, &kms.SetPrimaryRequest{Name: name.Version(1)})
			return err
		},
		"GetKeyVersion":     func() error { _, err := api.GetKeyVersion(s.ctx, who, name.Version(1)); return err },
		"ListKeyVersions":   func() error { _, err := api.ListKeyVersions(s.ctx, who, name, kms.Page{}); return err },
		"EnableKeyVersion":  func() error { _, err := api.EnableKeyVersion(s.ctx, who, name.Version(1), ""); return err },
		"DisableKeyVersion": func() error { _, err := api.DisableKeyVersion(s.ctx, who, name.Version(1), ""); return err },
		"RevokeKeyVersion": func() error {
			_, err := api.RevokeKeyVersion(s.ctx, who, &kms.RevokeRequest{Name: name.Version(1), Reason: "r", DataLossAccepted: true})
			return err
		},
		"RestrictKeyVersion": func() error { _, err := api.RestrictKeyVersion(s.ctx, who, name.Version(1), ""); return err },
		"RestoreKeyVersion":  func() error { _, err := api.RestoreKeyVersion(s.ctx, who, name.Version(1), ""); return err },
		"ScheduleKeyVersionDestruction": func() error {
			_, err := api.ScheduleKeyVersionDestruction(s.ctx, who,
				&kms.DestructionRequest{Name: name.Version(1), Reason: "r", DataLossAccepted: true})
			return err
		},
		"ListReplicas": func() error { _, err := api.ListReplicas(s.ctx, who); return err },
		"VerifyStore":  func() error { _, err := api.VerifyStore(s.ctx, who); return err },
		"ResealStore":  func() error { _, err := api.ResealStore(s.ctx, who, "r"); return err },
		"BackupStore": func() error {
			var got bytes.Buffer
			_, err := api.BackupStore(s.ctx, who, &got)
			if got.Len() > 0 {
				t.Errorf("a stranger got %d bytes of a backup", got.Len())
			}
			return err
		},
		"RestoreStore": func() error {
			_, err := api.RestoreStore(s.ctx, who, &kms.RestoreStoreRequest{Backup: strings.NewReader("x"), Reason: "r"})
			return err
		},
		"ListOrphans": func() error { _, err := api.ListOrphans(s.ctx, who); return err },
		"ScheduleOrphanDestruction": func() error {
			_, err := api.ScheduleOrphanDestruction(s.ctx, who, &kms.OrphanDestructionRequest{Reason: "r"})
			return err
		},
		"Encrypt": func() error { _, err := api.Encrypt(s.ctx, who, &kms.EncryptRequest{Key: name}); return err },
		"Decrypt": func() error {
			_, err := api.Decrypt(s.ctx, who, &kms.DecryptRequest{Parent: parent, Ciphertext: ciphertext})
			return err
		},
		"ReEncrypt": func() error {
			_, err := api.ReEncrypt(s.ctx, who, &kms.ReEncryptRequest{Parent: parent, Ciphertext: ciphertext})
			return err
		},
		"BatchEncrypt": func() error {
			return firstPayload(api.BatchEncrypt(s.ctx, who, &kms.BatchEncryptRequest{
				Parent: parent, Key: name, Items: []kms.PayloadItem{{Plaintext: kms.Secret("x")}},
			}))
		},
		"BatchDecrypt": func() error {
			return firstPayload(api.BatchDecrypt(s.ctx, who, &kms.BatchDecryptRequest{
				Parent: parent, Items: []kms.PayloadItem{{Ciphertext: ciphertext}},
			}))
		},
		"GenerateDataKeys": func() error {
			return first(api.GenerateDataKeys(s.ctx, who, &kms.GenerateDataKeysRequest{Key: name}))
		},
		"WrapDataKeys": func() error {
			return first(api.WrapDataKeys(s.ctx, who, &kms.WrapDataKeysRequest{
				Parent: parent, Key: name, Items: []kms.DataKeyItem{{DataKey: make([]byte, 32)}},
			}))
		},
		"UnwrapDataKeys": func() error {
			return first(api.UnwrapDataKeys(s.ctx, who, &kms.UnwrapDataKeysRequest{
				Parent: parent, Items: []kms.DataKeyItem{{Wrapped: wrapped}},
			}))
		},
		"RewrapDataKeys": func() error {
			return first(api.RewrapDataKeys(s.ctx, who, &kms.RewrapDataKeysRequest{
				Parent: parent, Items: []kms.DataKeyItem{{Wrapped: wrapped}},
			}))
		},
		"GenerateRandom": func() error { _, err := api.GenerateRandom(s.ctx, who, 16); return err },
		"Diagnose":       func() error { _, err := api.Diagnose(s.ctx, who); return err },
	} {
		wantError(t, call(), kms.ErrNotAccessible, doing+" by a stranger")
	}
	if got := s.mustDecrypt(ciphertext, kms.Binding{}); got != "secret" {
		t.Fatalf("afterwards the administrator decrypts %q", got)
	}
}

func testRandom(t *testing.T, s *suite) {
	seen := make(map[string]bool)
	for range 4 {
		random, err := s.Admin.API.GenerateRandom(s.ctx, s.Admin.Principal, 32)
		wantOK(t, err, "GenerateRandom")
		if len(random) != 32 || seen[string(random)] {
			t.Fatalf("GenerateRandom(32) returned %d bytes (repeated: %v)", len(random), seen[string(random)])
		}
		seen[string(random)] = true
	}
	most, err := s.Admin.API.GenerateRandom(s.ctx, s.Admin.Principal, kms.MaxRandom)
	wantOK(t, err, "GenerateRandom of the most")
	if len(most) != kms.MaxRandom {
		t.Fatalf("GenerateRandom(%d) returned %d bytes", kms.MaxRandom, len(most))
	}
	_, err = s.Admin.API.GenerateRandom(s.ctx, s.Admin.Principal, kms.MaxRandom+1)
	wantError(t, err, kms.ErrLimitExceeded, "GenerateRandom of more")
	for _, n := range []int{0, -1} {
		_, err = s.Admin.API.GenerateRandom(s.ctx, s.Admin.Principal, n)
		wantViolation(t, err, "size", fmt.Sprintf("GenerateRandom(%d)", n))
	}
}

func testDiagnose(t *testing.T, s *suite) {
	s.mustCreate("orders", kms.ProfileDerived)
	findings, err := s.Admin.API.Diagnose(s.ctx, s.Admin.Principal)
	wantOK(t, err, "Diagnose")
	areas := make(map[string]int)
	for _, f := range findings {
		areas[f.Area]++
		if f.Check == "" || f.Detail == "" || f.Severity == 0 {
			t.Errorf("an incomplete finding: %+v", f)
		}
		if f.Severity == kms.SeverityError {
			t.Errorf("an error on a healthy service: %+v", f)
		}
	}
	for _, area := range []string{"token", "store", "self-test", "keys"} {
		if areas[area] == 0 {
			t.Errorf("no finding of area %s", area)
		}
	}
}
