package hsmtest

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// Fixture is what the contract suite needs of one implementation.
type Fixture struct {
	// Token is open and holds no keys. The suite closes it.
	Token hsm.Token
	// Another opens the same token once more, as another process or a restarted
	// one would. The suite closes it.
	Another func(t testing.TB) hsm.Token
	// NoLocal says that the token sets CKA_LOCAL on no key.
	NoLocal bool
	// AllSizes makes RSA keys of every size. Without it the shortest of each kind stands
	// for all, which is enough for what only wraps a token.
	AllSizes bool
	// WithoutRSA leaves RSA keys out: for a further way to a token whose RSA keys another
	// run of the suite uses, because making them takes time.
	WithoutRSA bool
}

// Run checks that an implementation keeps the contract of [hsm.Token]. newFixture
// makes a fresh token for each test; tests run in parallel. What a token says that
// it does not support is checked to be refused with hsm.ErrUnsupported.
func Run(t *testing.T, newFixture func(t testing.TB) Fixture) {
	tests := []struct {
		name string
		run  func(c *contract)
	}{
		{"Info", testInfo},
		{"Blocks/StandardVectors", testBlocksVectors},
		{"Blocks/XAESVectors", testBlocksXAES},
		{"Blocks/AgainstStdlib", testBlocksAgainstStdlib},
		{"Blocks/InPlace", testBlocksInPlace},
		{"Blocks/Long", testBlocksLong},
		{"Blocks/Arguments", testBlocksArguments},
		{"GCM/StandardVector", testGCMVector},
		{"GCM/AgainstStdlib", testGCMAgainstStdlib},
		{"GCM/RoundTrip", testGCMRoundTrip},
		{"GCM/NoncesDiffer", testGCMNonces},
		{"GCM/ItemsFailAlone", testGCMItemsFailAlone},
		{"GCM/Arguments", testGCMArguments},
		{"Sign/Schemes", testSignSchemes},
		{"Sign/Arguments", testSignArguments},
		{"Sign/Batch", testSignBatch},
		{"Sign/PublicKey", testPublicKey},
		{"MAC/AgainstStdlib", testMACAgainstStdlib},
		{"MAC/Generated", testMACGenerated},
		{"MAC/Batch", testMACBatch},
		{"Decrypt/OAEP", testDecryptOAEP},
		{"Decrypt/Refused", testDecryptRefused},
		{"Decrypt/Arguments", testDecryptArguments},
		{"Import/Keys", testImportKeys},
		{"Import/Refused", testImportRefused},
		{"Import/OtherKeys", testImportOtherKeys},
		{"Import/FaultyKeys", testImportFaultyKeys},
		{"Import/Arguments", testImportArguments},
		{"Objects/Pairs", testPairs},
		{"Objects/Generated", testGenerated},
		{"Objects/Unsupported", testUnsupportedSpecs},
		{"Objects/Enumerate", testEnumerate},
		{"Objects/Duplicate", testDuplicate},
		{"Objects/Destroy", testDestroy},
		{"Objects/SpecsAreSeparate", testSpecsAreSeparate},
		{"Objects/UsageSwitch", testUsageSwitch},
		{"Objects/Label", testLabel},
		{"Objects/SessionKey", testSessionKey},
		{"Objects/Restart", testRestart},
		{"Objects/Another", testAnother},
		{"Random", testRandom},
		{"Context", testContext},
		{"Concurrency", testConcurrency},
		{"Close", testClose},
		{"CloseInFlight", testCloseInFlight},
	}
	t.Run("NoLeak", func(t *testing.T) { testNoLeak(t, newFixture) }) // alone: others run goroutines
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			t.Cleanup(func() { _ = f.Token.Close() })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			t.Cleanup(cancel)
			test.run(&contract{T: t, ctx: ctx, token: f.Token, info: f.Token.Info(), fixture: f})
		})
	}
}

// contract is one test of the suite.
type contract struct {
	*testing.T
	ctx     context.Context // of this one test
	token   hsm.Token
	info    hsm.Info
	fixture Fixture
}

// another opens the token once more.
func (c *contract) another() hsm.Token {
	c.Helper()
	token := c.fixture.Another(c.T)
	c.Cleanup(func() { _ = token.Close() })
	return token
}

func (c *contract) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// sentinels are all errors that a Token may return.
var sentinels = []error{
	hsm.ErrArgument, hsm.ErrKeyNotFound, hsm.ErrKeyExists, hsm.ErrKeyNotPermitted, hsm.ErrAuthentication,
	hsm.ErrUnsupported, hsm.ErrLoginLost, hsm.ErrUnavailable, hsm.ErrBusy, hsm.ErrClosed,
	hsm.ErrModule, hsm.ErrTokenNotFound, hsm.ErrPINIncorrect, hsm.ErrPINLocked,
}

// wantError checks that err matches the sentinel and no other.
func (c *contract) wantError(what string, err, want error) {
	c.Helper()
	if !errors.Is(err, want) {
		c.Fatalf("%s: got error %v, want %v", what, err, want)
	}
	for _, other := range sentinels {
		if other != want && errors.Is(err, other) { //nolint:errorlint // identity of sentinels
			c.Fatalf("%s: %v matches %v, too", what, err, other)
		}
	}
}

// needs skips nothing: it ends the test, as passed, where the token does not support
// the specification, which testUnsupportedSpecs has then checked, or where the fixture
// leaves it out.
func (c *contract) needs(spec hsm.KeySpec) bool {
	return c.info.Supports(spec) && (!c.fixture.WithoutRSA || !spec.IsRSA())
}

// specs are those that the token supports; without Fixture.AllSizes only the shortest RSA
// keys of each kind.
func (c *contract) specs() (specs []hsm.KeySpec) {
	seen := make(map[hsm.Usage]bool)
	for _, spec := range hsm.KeySpecs() {
		if !c.needs(spec) || spec.IsRSA() && seen[spec.Usage()] && !c.fixture.AllSizes {
			continue
		}
		seen[spec.Usage()] = seen[spec.Usage()] || spec.IsRSA()
		specs = append(specs, spec)
	}
	return specs
}

// quick are those of specs whose keys are made in no time.
func (c *contract) quick() []hsm.KeySpec {
	return slices.DeleteFunc(c.specs(), hsm.KeySpec.IsRSA)
}

// shortest are those of specs without the longer RSA keys of each kind.
func (c *contract) shortest() []hsm.KeySpec {
	short := *c
	short.fixture.AllSizes = false
	return short.specs()
}

// with are those of specs that are for one thing.
func (c *contract) with(usage hsm.Usage) []hsm.KeySpec {
	return slices.DeleteFunc(c.specs(), func(spec hsm.KeySpec) bool { return spec.Usage() != usage })
}

func (c *contract) newUID() (uid hsm.UID) {
	rand.Read(uid[:])
	return uid
}

func (c *contract) generate(spec hsm.KeySpec) hsm.UID {
	c.Helper()
	uid := c.newUID()
	_, err := c.token.GenerateKey(c.ctx, uid, "contract", spec)
	c.must(err)
	return uid
}

// importKey brings a known key in, or reports that the token cannot.
func (c *contract) importKey(spec hsm.KeySpec, value []byte) (hsm.UID, bool) {
	c.Helper()
	uid := c.newUID()
	err := c.token.ImportSessionKey(c.ctx, uid, spec, value)
	if !c.info.SessionKeys {
		c.wantError("ImportSessionKey", err, hsm.ErrUnsupported)
		return uid, false
	}
	c.must(err)
	return uid, true
}

func (c *contract) encrypt(uid hsm.UID, src []byte) []byte {
	c.Helper()
	dst := make([]byte, len(src))
	c.must(c.token.EncryptBlocks(c.ctx, uid, dst, src))
	return dst
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
