package pkcs11hsm_test

import (
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// TestSoftHSMContract runs the contract suite on SoftHSM2.
func TestSoftHSMContract(t *testing.T) {
	softhsmtest.Require(t)
	hsmtest.Run(t, func(t testing.TB) hsmtest.Fixture {
		token := softhsmtest.New(t)
		return hsmtest.Fixture{
			Token:    token.Open(t),
			Another:  func(t testing.TB) hsm.Token { return token.Open(t) },
			AllSizes: true,
		}
	})
}

// TestSoftHSMContractShortBlocks runs it with crossings of two blocks.
func TestSoftHSMContractShortBlocks(t *testing.T) {
	softhsmtest.Require(t)
	hsmtest.Run(t, func(t testing.TB) hsmtest.Fixture {
		token := softhsmtest.New(t)
		cfg := token.Config()
		cfg.MaxBlockBytes, cfg.Sessions = 32, 2
		return hsmtest.Fixture{
			Token:      token.OpenWith(t, cfg),
			Another:    func(t testing.TB) hsm.Token { return token.OpenWith(t, cfg) },
			WithoutRSA: true,
		}
	})
}
