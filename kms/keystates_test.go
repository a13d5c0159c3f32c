package kms_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// stopped brings a version of a key into a state in which it does nothing new, and says
// which error tells so.
var stopped = map[kms.State]struct {
	refusal error
	change  func(w *world, v kms.VersionName) error
}{
	kms.StateRewrapOnly: {kms.ErrVersionRewrapOnly, func(w *world, v kms.VersionName) error {
		_, err := w.service.RestrictKeyVersion(w.t.Context(), admin, v, "suspected")
		return err
	}},
	kms.StateDisabled: {kms.ErrVersionDisabled, func(w *world, v kms.VersionName) error {
		_, err := w.service.DisableKeyVersion(w.t.Context(), admin, v, "")
		return err
	}},
	kms.StateRevoked: {kms.ErrVersionRevoked, func(w *world, v kms.VersionName) error {
		_, err := w.service.RevokeKeyVersion(w.t.Context(), admin, &kms.RevokeRequest{Name: v, Reason: "leaked", DataLossAccepted: true})
		return err
	}},
	kms.StateDestroyScheduled: {kms.ErrVersionDestroyScheduled, func(w *world, v kms.VersionName) error {
		_, err := w.service.ScheduleKeyVersionDestruction(w.t.Context(), admin,
			&kms.DestructionRequest{Name: v, Reason: "done", DataLossAccepted: true})
		return err
	}},
}

// A version that is stopped does nothing that needs its key, named or as primary; its
// public key is still told, and what it has signed is still verified, with its state.
func TestStatesOfKeysThatAreNotForEncryption(t *testing.T) {
	t.Parallel()
	for state, stop := range stopped {
		t.Run(state.String(), func(t *testing.T) {
			t.Parallel()
			w := newKeyWorld(t, nil)
			sign, mac := w.createKey("sign", kms.AlgorithmECP384SHA384), w.createKey("mac", kms.AlgorithmHMACSHA512)
			decrypt := w.createKey("decrypt", kms.AlgorithmRSA2048OAEPSHA1)
			message := []byte("m")
			signed, err := w.service.Sign(t.Context(), admin, &kms.SignRequest{Key: sign, Message: message})
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []kms.KeyName{sign, mac, decrypt} {
				if err := stop.change(w, name.Version(1)); err != nil {
					t.Fatal(err)
				}
				object, err := w.faults.Key(t.Context(), w.uid(name.Version(1)))
				if err != nil || object.Usable {
					t.Errorf("the object of %s is on: %v, %v", name, object.Usable, err)
				}
			}
			v := w.publicKeyOf(sign.Version(1))
			if v.State != state {
				t.Errorf("GetPublicKey says %s", v.State)
			}
			if v := w.publicKeyOf(decrypt.Version(1)); v.State != state {
				t.Errorf("GetPublicKey says %s", v.State)
			}
			r, err := w.service.Verify(t.Context(), admin, &kms.VerifyRequest{Key: sign, Message: message, Signature: signed.Signature})
			if err != nil || !r.Valid || r.State != state {
				t.Errorf("Verify: %+v, %v", r, err)
			}
			for _, op := range keyOperations() {
				for _, name := range []kms.KeyName{sign, mac, decrypt} {
					key, err := w.service.GetKey(t.Context(), admin, name)
					if err != nil {
						t.Fatal(err)
					}
					if errors.Is(served(key.Purpose, op.action), kms.ErrPurpose) || op.action == kms.ActionVerify || op.action == kms.ActionGetPublicKey {
						continue
					}
					err = op.call(w, admin, name)
					wantError(t, err, stop.refusal, fmt.Sprintf("%s of a version that is %s", op.action, state))
					seals := op.action != kms.ActionVerifyMac && op.action != kms.ActionBatchVerifyMac && op.action != kms.ActionAsymDecrypt
					if errors.Is(err, kms.ErrNoEnabledPrimary) != seals {
						t.Errorf("%s of a primary that is %s: %v", op.action, state, err)
					}
				}
			}
			_, err = w.service.Sign(t.Context(), admin, &kms.SignRequest{Version: sign.Version(1), Message: message})
			wantError(t, err, stop.refusal, "Sign with the version named")
			if errors.Is(err, kms.ErrNoEnabledPrimary) {
				t.Errorf("Sign with the version named: %v", err)
			}
			if old := sign.Version(1); w.rotate(sign) != sign.Version(2) {
				t.Error("not rotated")
			} else if _, err = w.service.Sign(t.Context(), admin, &kms.SignRequest{Version: old, Message: message}); !errors.Is(err, stop.refusal) {
				t.Errorf("Sign with the old version named: %v", err)
			}
			if _, err := w.service.Sign(t.Context(), admin, &kms.SignRequest{Key: sign, Message: message}); err != nil {
				t.Errorf("Sign after a rotation: %v", err)
			}
		})
	}
}

func (w *world) publicKeyOf(name kms.VersionName) *kms.PublicKey {
	w.t.Helper()
	r, err := w.service.GetPublicKey(w.t.Context(), admin, &kms.GetPublicKeyRequest{Version: name})
	if err != nil {
		w.t.Fatalf("GetPublicKey: %v", err)
	}
	return r
}

// An older version that is ENABLED signs when it is named.
func TestOlderVersionsSignWhenNamed(t *testing.T) {
	t.Parallel()
	w := newKeyWorld(t, nil)
	name := w.createKey("sign", kms.AlgorithmEd25519)
	second := w.rotate(name)
	for _, test := range []struct {
		r    kms.SignRequest
		want kms.VersionName
	}{
		{kms.SignRequest{Key: name}, second},
		{kms.SignRequest{Version: name.Version(1)}, name.Version(1)},
	} {
		test.r.Message = []byte("m")
		r, err := w.service.Sign(t.Context(), admin, &test.r)
		if err != nil || r.Version != test.want {
			t.Fatalf("Sign: %+v, %v", r, err)
		}
		w.wantVerdict(true, &kms.VerifyRequest{Version: test.want, Message: test.r.Message, Signature: r.Signature})
	}
}

// A rotation that restricts the older versions switches their objects off: there is
// nothing to rewrap.
func TestRotationRestrictsSigningVersions(t *testing.T) {
	t.Parallel()
	w := newKeyWorld(t, nil)
	name := w.createKey("sign", kms.AlgorithmECP256SHA256)
	r, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name, RestrictPrevious: true, Reason: "suspected"})
	if err != nil || len(r.Restricted) != 1 {
		t.Fatalf("RotateKey: %+v, %v", r, err)
	}
	object, err := w.faults.Key(t.Context(), w.uid(name.Version(1)))
	if err != nil || object.Usable {
		t.Errorf("the object of the restricted version is on: %v, %v", object.Usable, err)
	}
	if _, err := w.service.EnableKeyVersion(t.Context(), admin, name.Version(1), "cleared"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.Sign(t.Context(), admin, &kms.SignRequest{Version: name.Version(1), Message: []byte("m")}); err != nil {
		t.Errorf("Sign after the version was enabled: %v", err)
	}
}

// lateToken has computed, and then lets the caller wait: as a result on its way.
// It does so once each time that it is armed.
type lateToken struct {
	hsm.Token
	armed             atomic.Bool
	computed, release chan struct{}
}

func (l *lateToken) wait() {
	if l.armed.CompareAndSwap(true, false) {
		close(l.computed)
		<-l.release
	}
}

func (l *lateToken) Sign(ctx context.Context, key hsm.UID, scheme hsm.Scheme, input []byte) ([]byte, error) {
	defer l.wait()
	return l.Token.Sign(ctx, key, scheme, input)
}

func (l *lateToken) SignBatch(ctx context.Context, key hsm.UID, scheme hsm.Scheme, items []hsm.SignItem) error {
	defer l.wait()
	return l.Token.SignBatch(ctx, key, scheme, items)
}

func (l *lateToken) MAC(ctx context.Context, key hsm.UID, message []byte) ([]byte, error) {
	defer l.wait()
	return l.Token.MAC(ctx, key, message)
}

func (l *lateToken) DecryptOAEP(ctx context.Context, key hsm.UID, hash crypto.Hash, ciphertext, label []byte) ([]byte, error) {
	defer l.wait()
	return l.Token.DecryptOAEP(ctx, key, hash, ciphertext, label)
}

// A result that the token has made already is not released once the version is revoked;
// nor is one made that still waits for the token.
func TestRevocationTakesResultsBack(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		algorithm kms.Algorithm
		method    hsmtest.Method
		call      func(w *world, v kms.VersionName) (any, error)
	}{
		{"Sign", kms.AlgorithmECP256SHA256, hsmtest.MethodSign, func(w *world, v kms.VersionName) (any, error) {
			r, err := w.service.Sign(w.t.Context(), admin, &kms.SignRequest{Version: v, Message: []byte("m")})
			if r == nil {
				return nil, err
			}
			return r, err
		}},
		{"BatchSign", kms.AlgorithmEd25519, hsmtest.MethodSignBatch, func(w *world, v kms.VersionName) (any, error) {
			r, err := w.service.BatchSign(w.t.Context(), admin, &kms.BatchSignRequest{
				Parent: v.Key().Namespace(), Version: v, Items: []kms.SignItem{{Message: []byte("1")}, {Message: []byte("2")}},
			})
			if err != nil {
				return nil, err
			}
			if r[0].Signature != nil || r[1].Signature != nil || r[1].Err == nil {
				return r, nil
			}
			return nil, r[0].Err
		}},
		{"GenerateMac", kms.AlgorithmHMACSHA256, hsmtest.MethodMAC, func(w *world, v kms.VersionName) (any, error) {
			r, err := w.service.GenerateMac(w.t.Context(), admin, &kms.GenerateMacRequest{Version: v, Message: []byte("m")})
			if r == nil {
				return nil, err
			}
			return r, err
		}},
		{"VerifyMac", kms.AlgorithmHMACSHA256, hsmtest.MethodMAC, func(w *world, v kms.VersionName) (any, error) {
			r, err := w.service.VerifyMac(w.t.Context(), admin, &kms.VerifyMacRequest{Version: v, Message: []byte("m"), Mac: []byte{1}})
			if r == nil {
				return nil, err
			}
			return r, err
		}},
		{"AsymmetricDecrypt", kms.AlgorithmRSA2048OAEPSHA256, hsmtest.MethodDecryptOAEP, func(w *world, v kms.VersionName) (any, error) {
			public, ok := w.publicKey(v).(*rsa.PublicKey)
			if !ok {
				return nil, errors.New("no RSA key")
			}
			ciphertext, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, public, []byte("secret"), nil)
			if err != nil {
				return nil, err
			}
			r, err := w.service.AsymmetricDecrypt(w.t.Context(), admin, &kms.AsymmetricDecryptRequest{Version: v, Ciphertext: ciphertext})
			if r == nil {
				return nil, err
			}
			return r, err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var late *lateToken
			w := newKeyWorld(t, func(c *kms.Config) {
				late = &lateToken{Token: c.Token, computed: make(chan struct{}), release: make(chan struct{})}
				c.Token = late
			})
			name := w.createKey("k", test.algorithm)
			if _, err := test.call(w, name.Version(1)); err != nil {
				t.Fatalf("before: %v", err)
			}
			type outcome struct {
				result any
				err    error
			}
			done := make(chan outcome, 1)
			begin := func(v kms.VersionName) {
				go func() {
					result, err := test.call(w, v)
					done <- outcome{result, err}
				}()
			}
			wantNothing := func(v kms.VersionName) {
				t.Helper()
				got := <-done
				wantError(t, got.err, kms.ErrVersionRevoked, "what was under way")
				if got.result != nil {
					t.Errorf("it returned %+v", got.result)
				}
				items := w.auditor.last().Items
				if len(items) != 1 || !errors.Is(items[0].Err, kms.ErrVersionRevoked) || items[0].Version != v {
					t.Errorf("the record says %+v", items)
				}
			}

			late.armed.Store(true)
			begin(name.Version(1))
			<-late.computed
			if err := stopped[kms.StateRevoked].change(w, name.Version(1)); err != nil {
				t.Fatal(err)
			}
			close(late.release)
			wantNothing(name.Version(1))

			second := w.rotate(name)
			if _, err := test.call(w, second); err != nil {
				t.Fatalf("after a rotation: %v", err)
			}
			gate := w.faults.Hold(test.method)
			begin(second)
			if err := gate.Await(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if err := stopped[kms.StateRevoked].change(w, second); err != nil {
				t.Fatal(err)
			}
			gate.Release()
			wantNothing(second)
		})
	}
}

// misfit is a token whose private keys are others than those that it shows.
type misfit struct {
	hsm.Token
	instead map[hsm.UID]hsm.UID
}

func (m *misfit) of(key hsm.UID) hsm.UID {
	if other, ok := m.instead[key]; ok {
		return other
	}
	return key
}

func (m *misfit) Sign(ctx context.Context, key hsm.UID, scheme hsm.Scheme, input []byte) ([]byte, error) {
	return m.Token.Sign(ctx, m.of(key), scheme, input)
}

func (m *misfit) DecryptOAEP(ctx context.Context, key hsm.UID, hash crypto.Hash, ciphertext, label []byte) ([]byte, error) {
	return m.Token.DecryptOAEP(ctx, m.of(key), hash, ciphertext, label)
}

// Keys that were exchanged in the token behind the service's back are noticed: at the
// start or when they are first used, and no result of the wrong one comes out.
func TestExchangedKeysAreNoticed(t *testing.T) {
	t.Parallel()
	for _, a := range []kms.Algorithm{
		kms.AlgorithmECP256SHA256, kms.AlgorithmEd25519, kms.AlgorithmRSA2048PSSSHA256, kms.AlgorithmRSA2048OAEPSHA256, kms.AlgorithmHMACSHA256,
	} {
		for _, privateOnly := range []bool{false, true} {
			if privateOnly && a.Purpose() == kms.PurposeMAC {
				continue
			}
			t.Run(fmt.Sprintf("%s/private only %v", a, privateOnly), func(t *testing.T) {
				t.Parallel()
				lie := &misfit{instead: make(map[hsm.UID]hsm.UID)}
				w := newKeyWorld(t, func(c *kms.Config) {
					lie.Token = c.Token
					c.Token = lie
				})
				one, two := w.createKey("one", a), w.createKey("two", a)
				first, second := w.uid(one.Version(1)), w.uid(two.Version(1))
				w.stop()
				if privateOnly {
					lie.instead[first], lie.instead[second] = second, first
				} else if err := w.memory.TamperSwap(first, second); err != nil {
					t.Fatal(err)
				}
				w.mustStart()
				for _, name := range []kms.KeyName{one, two} {
					for _, op := range keyOperations() {
						if served(a.Purpose(), op.action) == nil && op.action != kms.ActionVerify && op.action != kms.ActionGetPublicKey ||
							op.action == kms.ActionAsymDecrypt && a.Purpose() == kms.PurposeAsymmetricDecrypt {
							wantError(t, op.call(w, admin, name), kms.ErrVersionUnavailable, string(op.action))
						}
					}
					v, err := w.service.GetKeyVersion(t.Context(), admin, name.Version(1))
					if err != nil || v.Unavailable == "" {
						t.Errorf("the version does not say that it is unavailable: %+v, %v", v, err)
					}
				}
			})
		}
	}
}

// weakened is a token that reports other attributes than it did, of one object.
type weakened struct {
	hsm.Token
	uid    hsm.UID
	change func(*hsm.Object)
}

func (w *weakened) Keys(ctx context.Context) ([]hsm.Object, error) {
	objects, err := w.Token.Keys(ctx)
	for i := range objects {
		if w.change != nil && objects[i].UID == w.uid {
			w.change(&objects[i])
		}
	}
	return objects, err
}

func (w *weakened) Key(ctx context.Context, uid hsm.UID) (hsm.Object, error) {
	object, err := w.Token.Key(ctx, uid)
	if err == nil && w.change != nil && uid == w.uid {
		w.change(&object)
	}
	return object, err
}

// An object whose attributes are weaker than they were is refused at the start, and the
// refusal names which; what the token reports now is told, too.
func TestWeakenedObjectsAreRefused(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		change func(*hsm.Object)
		names  string // empty: it is no weakening
	}{
		"nothing":    {func(*hsm.Object) {}, ""},
		"local":      {func(o *hsm.Object) { o.Attributes.Local = hsm.ReportedFalse }, "CKA_LOCAL was true and is false"},
		"unreported": {func(o *hsm.Object) { o.Attributes.NeverExtractable = hsm.NotReported }, "CKA_NEVER_EXTRACTABLE was true and is not reported"},
		"always":     {func(o *hsm.Object) { o.Attributes.AlwaysSensitive = hsm.ReportedFalse }, "CKA_ALWAYS_SENSITIVE"},
		"private":    {func(o *hsm.Object) { o.Attributes.Private = hsm.ReportedFalse }, "CKA_PRIVATE"},
		"list gone":  {func(o *hsm.Object) { o.Mechanisms = nil }, "CKA_ALLOWED_MECHANISMS is gone"},
		"list longer": {func(o *hsm.Object) { o.Mechanisms = append([]string{"CKM_SHA_1_HMAC"}, o.Mechanisms...) },
			"CKA_ALLOWED_MECHANISMS has CKM_SHA_1_HMAC"},
		"list shorter": {func(o *hsm.Object) { o.Mechanisms = []string{} }, ""},
		"generator":    {func(o *hsm.Object) { o.Attributes.KeyGenMechanism = "" }, ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			token := &weakened{}
			w := newKeyWorld(t, func(c *kms.Config) {
				token.Token = c.Token
				c.Token = token
			})
			name := w.createKey("mac", kms.AlgorithmHMACSHA256)
			before, err := w.service.GetKeyVersion(t.Context(), admin, name.Version(1))
			if err != nil || before.Imported || before.Attributes.Local != hsm.ReportedTrue || before.Host == nil || !before.Host.Usable ||
				before.Host.Attributes.Local != hsm.ReportedTrue || before.Host.Label != "test" || before.Host.Problem != "" {
				t.Fatalf("GetKeyVersion: %+v, host %+v, %v", before, before.Host, err)
			}
			w.stop()
			token.uid, token.change = before.UID, test.change
			w.mustStart()
			after, err := w.service.GetKeyVersion(t.Context(), admin, name.Version(1))
			if err != nil {
				t.Fatal(err)
			}
			if (after.Unavailable == "") != (test.names == "") || !strings.Contains(after.Unavailable, test.names) {
				t.Errorf("unavailable: %q, want %q", after.Unavailable, test.names)
			}
			if after.Attributes.Local != hsm.ReportedTrue {
				t.Errorf("the record has changed: %+v", after.Attributes)
			}
			_, err = w.service.GenerateMac(t.Context(), admin, &kms.GenerateMacRequest{Key: name, Message: []byte("m")})
			if test.names != "" {
				wantError(t, err, kms.ErrVersionUnavailable, "GenerateMac")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// A token that does not answer does not keep the metadata of a version from being told.
func TestHostReportWithoutToken(t *testing.T) {
	t.Parallel()
	w := newKeyWorld(t, nil)
	name := w.createKey("mac", kms.AlgorithmHMACSHA256)
	w.faults.FailBefore(hsmtest.MethodKey, hsm.ErrUnavailable)
	v, err := w.service.GetKeyVersion(t.Context(), admin, name.Version(1))
	if err != nil || v.State != kms.StateEnabled || v.Host.Problem == "" || v.Host.Usable {
		t.Errorf("GetKeyVersion: %+v, %v", v, err)
	}
}

// A version whose pair is destroyed answers nothing any more.
func TestDestroyedPairs(t *testing.T) {
	t.Parallel()
	w, clock := newClockedWorld(t)
	name := w.createKey("sign", kms.AlgorithmECP256SHA256)
	v, uid := name.Version(1), w.uid(name.Version(1))
	signed, err := w.service.Sign(t.Context(), admin, &kms.SignRequest{Version: v, Message: []byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	w.schedule(v, time.Hour)
	clock.advance(time.Hour)
	w.restart()
	w.awaitState(v, kms.StateDestroyed)
	if _, err := w.faults.Key(t.Context(), uid); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Errorf("the token still has the pair: %v", err)
	}
	_, err = w.service.Verify(t.Context(), admin, &kms.VerifyRequest{Version: v, Message: []byte("m"), Signature: signed.Signature})
	wantError(t, err, kms.ErrVersionDestroyed, "Verify")
	_, err = w.service.GetPublicKey(t.Context(), admin, &kms.GetPublicKeyRequest{Version: v})
	wantError(t, err, kms.ErrVersionDestroyed, "GetPublicKey")
	if info := w.version(v); info.Host.Problem == "" {
		t.Errorf("the report of an object that is gone: %+v", info.Host)
	}
}

// Who verifies learns of a revocation also when the version is to be destroyed after it, and
// nothing any more once its destruction has begun.
func TestRevokedUntilDestroyed(t *testing.T) {
	t.Parallel()
	w, clock := newClockedWorld(t)
	name := w.createKey("sign", kms.AlgorithmECP256SHA256)
	v := name.Version(1)
	signed, err := w.service.Sign(t.Context(), admin, &kms.SignRequest{Version: v, Message: []byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	if err := stopped[kms.StateRevoked].change(w, v); err != nil {
		t.Fatal(err)
	}
	w.schedule(v, time.Hour)
	verify := &kms.VerifyRequest{Version: v, Message: []byte("m"), Signature: signed.Signature}
	if r, err := w.service.Verify(t.Context(), admin, verify); err != nil || !r.Valid || r.State != kms.StateRevoked {
		t.Errorf("Verify: %+v, %v", r, err)
	}
	if got := w.publicKeyOf(v).State; got != kms.StateRevoked {
		t.Errorf("GetPublicKey says %s", got)
	}
	if info := w.version(v); info.State != kms.StateDestroyScheduled || info.RestoreTo != kms.StateRevoked {
		t.Errorf("GetKeyVersion: %+v", info)
	}

	w.faults.FailBefore(hsmtest.MethodDestroyKey, hsm.ErrUnavailable)
	clock.advance(time.Hour)
	w.wakeUp(name)
	w.await("a failure", func() bool { return w.service.Schedule().DestructionsFailed == 1 })
	_, err = w.service.Verify(t.Context(), admin, verify)
	wantError(t, err, kms.ErrVersionDestroyed, "Verify of a version that is being destroyed")
	_, err = w.service.GetPublicKey(t.Context(), admin, &kms.GetPublicKeyRequest{Version: v})
	wantError(t, err, kms.ErrVersionDestroyed, "GetPublicKey of a version that is being destroyed")
}

// A version that another replica has revoked signs here no more when the revocation
// returns, and a version that another replica has made signs here at once.
func TestSigningOnReplicas(t *testing.T) {
	t.Parallel()
	var late *lateToken
	w := newSharedWorld(t, func(c *kms.Config) {
		late = &lateToken{Token: c.Token, computed: make(chan struct{}), release: make(chan struct{})}
		c.Token = late
	})
	here := late
	other := w.newReplica()
	name := w.createKey("sign", kms.AlgorithmEd25519)
	for _, replica := range []*world{w, other} {
		if _, err := replica.service.Sign(t.Context(), admin, &kms.SignRequest{Key: name, Message: []byte("m")}); err != nil {
			t.Fatal(err)
		}
	}
	here.armed.Store(true)
	done := make(chan error, 1)
	go func() {
		_, err := w.service.Sign(t.Context(), admin, &kms.SignRequest{Version: name.Version(1), Message: []byte("m")})
		done <- err
	}()
	<-here.computed
	if err := stopped[kms.StateRevoked].change(other, name.Version(1)); err != nil {
		t.Fatal(err)
	}
	close(here.release)
	wantError(t, <-done, kms.ErrVersionRevoked, "Sign that was under way while another replica revoked")
	_, err := w.service.Sign(t.Context(), admin, &kms.SignRequest{Version: name.Version(1), Message: []byte("m")})
	wantError(t, err, kms.ErrVersionRevoked, "Sign after another replica revoked")
	if r, err := w.service.Sign(t.Context(), admin, &kms.SignRequest{Version: other.rotate(name), Message: []byte("m")}); err != nil {
		t.Errorf("Sign with a version of another replica: %+v, %v", r, err)
	}
}
