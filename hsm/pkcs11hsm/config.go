package pkcs11hsm

import (
	"fmt"
	"log/slog"
	"runtime"

	"github.com/keyholt/keyholt/hsm"
)

// DefaultMaxBlockBytes is Config.MaxBlockBytes where none is set: 1,024 derivations
// of 32 bytes in one call.
const DefaultMaxBlockBytes = 32768

// minBlockBytes is the smallest piece that a long request is cut into.
const minBlockBytes = 2 * hsm.BlockSize

// Config says which token to open and how.
type Config struct {
	// Module is the path of the PKCS#11 module, a shared library. Symbolic links
	// are resolved.
	Module string
	// InitArgs is passed to C_Initialize as pReserved, for modules that need it
	// (NSS softokn). Empty for all others.
	InitArgs string
	// TokenLabel and TokenSerial select the token; at least one is set, and all
	// that are set must match.
	TokenLabel  string
	TokenSerial string
	// PIN returns the user PIN. It is called for the login at start and again
	// when a login was lost; what it returns is wiped after use. Returning it from
	// where it is stored, each time, keeps it out of the process's memory.
	PIN func() ([]byte, error)
	// Sessions is the size of the session pool; three for each core, at least
	// four, if zero. Fewer are opened where the token allows fewer.
	Sessions int
	// Lanes is how many threads make short calls one after another, each with a session
	// beside the pool; none if zero, or where the token allows no more sessions. A fast
	// token is then faster for many callers with a request each; see lane.go.
	Lanes int
	// MaxBlockBytes is the most bytes that one crossing encrypts, a multiple of
	// 16 from 32 up; DefaultMaxBlockBytes if zero. It is halved for good when the
	// module refuses the length.
	MaxBlockBytes int
	// RequireAllowedMechanisms refuses a token that does not keep and enforce
	// CKA_ALLOWED_MECHANISMS.
	RequireAllowedMechanisms bool
	// Logger receives what an operator should know; nothing if nil.
	Logger *slog.Logger
}

// withDefaults checks the configuration and fills in what is not set.
func (c Config) withDefaults() (Config, error) {
	if c.TokenLabel == "" && c.TokenSerial == "" {
		return c, fmt.Errorf("%w: neither a token label nor a serial number", hsm.ErrArgument)
	}
	if c.PIN == nil {
		return c, fmt.Errorf("%w: no source of the PIN", hsm.ErrArgument)
	}
	if c.Sessions == 0 {
		c.Sessions = max(4, 3*runtime.GOMAXPROCS(0))
	}
	if c.Sessions < 1 {
		return c, fmt.Errorf("%w: %d sessions", hsm.ErrArgument, c.Sessions)
	}
	if c.Lanes < 0 {
		return c, fmt.Errorf("%w: %d lanes", hsm.ErrArgument, c.Lanes)
	}
	if c.MaxBlockBytes == 0 {
		c.MaxBlockBytes = DefaultMaxBlockBytes
	}
	if c.MaxBlockBytes < minBlockBytes || c.MaxBlockBytes%hsm.BlockSize != 0 {
		return c, fmt.Errorf("%w: %d bytes a crossing, want a multiple of 16 from %d up",
			hsm.ErrArgument, c.MaxBlockBytes, minBlockBytes)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
