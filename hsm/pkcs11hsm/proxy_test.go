package pkcs11hsm_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// Numbers of functions in the function list, as the proxy's command fail wants them.
const (
	fnGetTokenInfo   = "6"
	fnCreateObject   = "20"
	fnDestroyObject  = "22"
	fnSetAttribute   = "25"
	fnEncryptInit    = "29"
	fnEncrypt        = "30"
	fnDecrypt        = "34"
	fnDecryptInit    = "33"
	fnSignInit       = "42"
	fnSign           = "43"
	fnUnwrapKey      = "61"
	fnGetSessionInfo = "15"
	fnLogin          = "18"
	fnOpenSession    = "12"
)

// buildProxy compiles testdata/proxy.c, a module between us and SoftHSM2 that behaves
// as told. Tests that use it do not run in parallel with others: to the registry it
// is another module, to SoftHSM2 it is the same.
func buildProxy(t *testing.T) string {
	t.Helper()
	t.Setenv("KEYHOLT_PROXY_MODULE", softhsmtest.Require(t))
	proxy := filepath.Join(t.TempDir(), "proxy.so")
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	args := []string{"-shared", "-fPIC", "-O1", "-Wall", "-D_GNU_SOURCE", "-o", proxy, "testdata/proxy.c", "-lpthread"}
	if runtime.GOOS == "linux" {
		args = append(args, "-ldl")
	}
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("compiling the proxy: %v\n%s", err, out)
	}
	return proxy
}

// newProxied is newRig on a token behind the proxy, to which commands are given
// before it is initialised.
func newProxied(t *testing.T, commands ...string) *rig {
	t.Helper()
	proxy := buildProxy(t)
	t.Setenv("KEYHOLT_PROXY", strings.Join(commands, "\n"))
	return newRigOn(t, softhsmtest.NewVia(t, proxy), func(c *pkcs11hsm.Config) { c.Sessions = 2 })
}

// tell gives the proxy commands.
func (r *rig) tell(commands ...string) {
	r.Helper()
	withRaw(r.T, r.token, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		return ctx.SeedRandom(s, []byte(strings.Join(commands, "\n")))
	})
}

// TestProxyContract runs the contract suite on tokens that choose their own nonces,
// in each of the ways known of real devices.
func TestProxyContract(t *testing.T) {
	for _, mode := range []string{"own", "append", "refuse"} {
		t.Run(mode, func(t *testing.T) {
			proxy := buildProxy(t)
			t.Setenv("KEYHOLT_PROXY", "nonce "+mode)
			hsmtest.Run(t, func(t testing.TB) hsmtest.Fixture {
				soft := softhsmtest.NewVia(t, proxy)
				token := soft.Open(t)
				if !token.Info().TokenNonces {
					t.Error("Info does not say that the token chooses nonces")
				}
				return hsmtest.Fixture{
					Token:      token,
					Another:    func(t testing.TB) hsm.Token { return soft.Open(t) },
					WithoutRSA: true,
				}
			})
		})
	}
}

// TestNonceSizes: the nonce of an item is the one the token used.
func TestNonceSizes(t *testing.T) {
	for mode, want := range map[string]int{"own": 12, "append": 16, "refuse": 16} {
		r := newProxied(t, "nonce "+mode)
		if n := len(r.sealed.Nonce); n != want {
			t.Errorf("nonce %s: %d bytes", mode, n)
		}
		if err := r.operations()["Open"](t.Context()); err != nil {
			t.Errorf("nonce %s: %v", mode, err)
		}
		if err := r.token.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLengthLimit: a module that refuses long blocks is asked for shorter ones, and
// that is remembered.
func TestLengthLimit(t *testing.T) {
	for _, limit := range []int{2048, 40} {
		r := newProxied(t, "reset")
		src := bytes.Repeat([]byte{0, 1, 2, 3}, 20000)
		want := make([]byte, len(src))
		if err := r.token.EncryptBlocks(t.Context(), r.blocks, want, src); err != nil {
			t.Fatal(err)
		}
		r.tell("limit " + map[int]string{2048: "2048", 40: "40"}[limit])
		got := bytes.Clone(src)
		if err := r.token.EncryptBlocks(t.Context(), r.blocks, got, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatal("wrong result in place")
		}
		if n := r.token.Info().MaxBlockBytes; n > limit || n < limit/2-16 {
			t.Fatalf("limit %d: remembered %d", limit, n)
		}
		if err := r.token.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLengthLimitBelowMinimum: below two blocks there is nothing left to halve, and
// nothing is remembered.
func TestLengthLimitBelowMinimum(t *testing.T) {
	r := newProxied(t, "reset")
	r.tell("limit 16")
	before := r.token.Info().MaxBlockBytes
	err := r.token.EncryptBlocks(t.Context(), r.blocks, make([]byte, 64), make([]byte, 64))
	if !errors.Is(err, hsm.ErrUnsupported) {
		t.Fatal(err)
	}
	if after := r.token.Info().MaxBlockBytes; after != before {
		t.Fatalf("remembered %d", after)
	}
}

// TestTransientCodes: each loss that a return code tells of is repaired within the
// call, also when the output was half written.
func TestTransientCodes(t *testing.T) {
	r := newProxied(t)
	for name, code := range map[string]string{
		"CKR_SESSION_HANDLE_INVALID": "0xb3",
		"CKR_SESSION_CLOSED":         "0xb0",
		"CKR_OPERATION_ACTIVE":       "0x90",
		"CKR_USER_NOT_LOGGED_IN":     "0x101",
		"CKR_KEY_HANDLE_INVALID":     "0x60",
		"CKR_OBJECT_HANDLE_INVALID":  "0x82",
		"CKR_DEVICE_REMOVED":         "0x32",
	} {
		for _, function := range []string{fnEncryptInit, fnEncrypt} {
			r.tell("fail " + function + " 1 " + code)
			buf := make([]byte, 32)
			if err := r.token.EncryptBlocks(t.Context(), r.blocks, buf, buf); err != nil || !bytes.Equal(buf, r.want) {
				t.Errorf("%s of function %s in EncryptBlocks: %v", name, function, err)
			}
			r.tell("fail " + function + " 1 " + code)
			items := []hsm.SealItem{{Plaintext: []byte("1"), AAD: []byte("a")}, {Plaintext: []byte("2"), AAD: []byte("a")}}
			if err := errors.Join(r.token.Seal(t.Context(), r.gcm, items), items[0].Err, items[1].Err); err != nil {
				t.Errorf("%s of function %s in Seal: %v", name, function, err)
				continue
			}
			opens := []hsm.OpenItem{{Nonce: items[1].Nonce, Sealed: items[1].Sealed, AAD: []byte("a")}}
			if err := errors.Join(r.token.Open(t.Context(), r.gcm, opens), opens[0].Err); err != nil || string(opens[0].Plaintext) != "2" {
				t.Errorf("%s of function %s: what was sealed does not open: %v", name, function, err)
			}
		}
	}
	r.tell("small")
	buf := make([]byte, 32)
	if err := r.token.EncryptBlocks(t.Context(), r.blocks, buf, buf); err != nil || !bytes.Equal(buf, r.want) {
		t.Errorf("CKR_BUFFER_TOO_SMALL: %v", err)
	}
}

// TestLastingCodes: what does not go away is reported, and only for as long as it
// lasts.
func TestLastingCodes(t *testing.T) {
	r := newProxied(t)
	for code, want := range map[string]error{
		"0x5":        hsm.ErrUnavailable,     // CKR_GENERAL_ERROR
		"0x30":       hsm.ErrUnavailable,     // CKR_DEVICE_ERROR
		"0x80000001": hsm.ErrUnavailable,     // a vendor's own
		"0xb3":       hsm.ErrUnavailable,     // CKR_SESSION_HANDLE_INVALID
		"0x60":       hsm.ErrUnavailable,     // CKR_KEY_HANDLE_INVALID: that the key is missing is not known
		"0x101":      hsm.ErrLoginLost,       // CKR_USER_NOT_LOGGED_IN
		"0x68":       hsm.ErrKeyNotPermitted, // CKR_KEY_FUNCTION_NOT_PERMITTED
		"0x70":       hsm.ErrKeyNotPermitted, // CKR_MECHANISM_INVALID
	} {
		r.tell("fail " + fnEncryptInit + " 100 " + code)
		if err := encrypt(t, r.token, r.blocks); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", code, err, want)
		}
		r.tell("reset")
		if err := encrypt(t, r.token, r.blocks); err != nil {
			t.Errorf("after %s: %v", code, err)
		}
	}
}

// TestGeneralErrorOfOneItem: what can mean anything is a failed authentication when
// an Open says it in a healthy session, an unavailable token when a Seal does, and
// the session's loss when the session is lost.
func TestGeneralErrorOfOneItem(t *testing.T) {
	r := newProxied(t)
	open := func() []hsm.OpenItem {
		item := hsm.OpenItem{Nonce: r.sealed.Nonce, Sealed: r.sealed.Sealed, AAD: r.sealed.AAD}
		return []hsm.OpenItem{item, item, item}
	}
	r.tell("fail " + fnDecrypt + " 1 0x30")
	opens := open()
	if err := errors.Join(r.token.Open(t.Context(), r.gcm, opens), opens[1].Err, opens[2].Err); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(opens[0].Err, hsm.ErrAuthentication) {
		t.Fatal(opens[0].Err)
	}
	seals := []hsm.SealItem{{AAD: []byte("a")}, {AAD: []byte("a")}}
	r.tell("fail " + fnEncrypt + " 1 0x5")
	if err := errors.Join(r.token.Seal(t.Context(), r.gcm, seals), seals[1].Err); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(seals[0].Err, hsm.ErrUnavailable) || seals[0].Sealed != nil {
		t.Fatal(seals[0].Err)
	}
	// Asking shows that the session is gone: no authentication failure.
	r.tell("fail "+fnDecrypt+" 1 0x5", "fail "+fnGetSessionInfo+" 1 0xb3")
	opens = open()
	if err := errors.Join(r.token.Open(t.Context(), r.gcm, opens), opens[0].Err, opens[1].Err, opens[2].Err); err != nil {
		t.Fatal(err)
	}
}

// TestItemTooLong: an item that the module finds too long fails alone.
func TestItemTooLong(t *testing.T) {
	r := newProxied(t)
	r.tell("limit 100")
	items := []hsm.SealItem{
		{Plaintext: make([]byte, 50), AAD: []byte("a")},
		{Plaintext: make([]byte, 500), AAD: []byte("a")},
		{Plaintext: make([]byte, 60), AAD: []byte("a")},
	}
	if err := errors.Join(r.token.Seal(t.Context(), r.gcm, items), items[0].Err, items[2].Err); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(items[1].Err, hsm.ErrUnsupported) {
		t.Fatal(items[1].Err)
	}
}

// TestTokenGone: while the token is gone calls fail as unavailable; that a real
// device comes back only after C_Finalize and C_Initialize is no obstacle.
func TestTokenGone(t *testing.T) {
	r := newProxied(t)
	r.tell("gone")
	for name, operation := range r.operations() {
		if err := operation(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := encrypt(t, r.token, r.blocks); err != nil {
		t.Fatal(err)
	}
}

// TestMissingMechanism: without it the token is refused, and the mechanism is named.
func TestMissingMechanism(t *testing.T) {
	proxy := buildProxy(t)
	for mechanism, name := range map[string]string{"0x1081": "CKM_AES_ECB", "0x1080": "CKM_AES_KEY_GEN"} {
		t.Setenv("KEYHOLT_PROXY", "hide "+mechanism)
		wantOpenError(t, softhsmtest.NewVia(t, proxy).Config(), hsm.ErrUnsupported, name)
	}
}

// TestMissingGCM: a token without it does all but GCM, and says so.
func TestMissingGCM(t *testing.T) {
	proxy := buildProxy(t)
	t.Setenv("KEYHOLT_PROXY", "hide 0x1087")
	token := softhsmtest.NewVia(t, proxy).Open(t)
	info := token.Info()
	if info.Supports(hsm.AES256GCM) || len(info.Limitations) != 1 || info.Limitations[0].Name != "gcm" {
		t.Fatalf("%+v", info)
	}
	if _, err := token.GenerateKey(t.Context(), hsm.UID{1}, "", hsm.AES256GCM); !errors.Is(err, hsm.ErrUnsupported) {
		t.Fatal(err)
	}
}

// TestPINLocked: a token that says that its PIN is locked is not tried, and one that
// says so when tried is not tried again.
func TestPINLocked(t *testing.T) {
	proxy := buildProxy(t)
	soft := softhsmtest.NewVia(t, proxy)
	cfg := soft.Config()
	asked := 0
	cfg.PIN = func() ([]byte, error) {
		asked++
		return []byte(soft.PIN()), nil
	}
	t.Setenv("KEYHOLT_PROXY", "flags 0x40000") // CKF_USER_PIN_LOCKED
	wantOpenError(t, cfg, hsm.ErrPINLocked)
	if asked != 0 {
		t.Fatalf("the PIN was asked for %d times", asked)
	}
	t.Setenv("KEYHOLT_PROXY", "fail "+fnLogin+" 1 0xa4")
	wantOpenError(t, cfg, hsm.ErrPINLocked, "C_Login")
	if asked != 1 {
		t.Fatalf("the PIN was asked for %d times", asked)
	}
	t.Setenv("KEYHOLT_PROXY", "")
	if err := soft.Open(t).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestUsageIsWrittenOnce: attributes that are right already are left alone, for SoftHSM2
// can lose an object that is being written when the process ends.
func TestUsageIsWrittenOnce(t *testing.T) {
	r := newProxied(t)
	r.tell("fail " + fnSetAttribute + " 1 0x10") // CKR_ATTRIBUTE_READ_ONLY
	if err := r.token.SetUsable(t.Context(), r.blocks, true); err != nil {
		t.Errorf("switching on what is on: %v", err)
	}
	if err := r.token.SetUsable(t.Context(), r.blocks, false); err == nil {
		t.Error("switching off did not reach the token")
	}
	for range 2 {
		if err := r.token.SetUsable(t.Context(), r.blocks, false); err != nil {
			t.Fatal(err)
		}
		if object, err := r.token.Key(t.Context(), r.blocks); err != nil || object.Usable {
			t.Fatalf("%+v, %v", object, err)
		}
		r.tell("fail " + fnSetAttribute + " 1 0x10")
	}
}
