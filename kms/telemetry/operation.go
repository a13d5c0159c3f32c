package telemetry

import (
	"context"
	"errors"

	"github.com/keyholt/keyholt/hsm"
)

// operation is a method of a token that may call the module.
type operation uint8

const (
	opEncryptBlocks operation = iota
	opSeal
	opOpen
	opRandom
	opSign
	opSignBatch
	opMAC
	opMACBatch
	opDecryptOAEP
	opPublicKey
	opUnwrapKey
	opGenerateKey
	opImportSessionKey
	opKeys
	opKey
	opSetUsable
	opSetLabel
	opDestroyKey
	opCheck
	operations // how many there are
)

// operationNames are the values of the label operation.
var operationNames = [operations]string{
	"encrypt_blocks", "seal", "open", "random",
	"sign", "sign_batch", "mac", "mac_batch", "decrypt_oaep", "public_key", "unwrap_key",
	"generate_key", "import_session_key", "keys", "key", "set_usable", "set_label", "destroy_key", "check",
}

// tokenOutcomes are the values of the label outcome of operations, in the order in which
// an error is looked up.
var tokenOutcomes = [...]struct {
	err  error
	name string
}{
	{hsm.ErrArgument, "argument"},
	{hsm.ErrKeyNotFound, "key_not_found"},
	{hsm.ErrKeyExists, "key_exists"},
	{hsm.ErrKeyNotPermitted, "key_not_permitted"},
	{hsm.ErrAuthentication, "authentication"},
	{hsm.ErrUnsupported, "unsupported"},
	{hsm.ErrLoginLost, "login_lost"},
	{hsm.ErrUnavailable, "unavailable"},
	{hsm.ErrBusy, "busy"},
	{hsm.ErrClosed, "closed"},
	{context.Canceled, "cancelled"},
	{context.DeadlineExceeded, "deadline"},
}

const (
	tokenOK    = "ok"
	tokenOther = "other" // an error that breaks the contract of hsm.Token
)

// tokenOutcome is how a call of a token ended.
func tokenOutcome(err error) string {
	if err == nil {
		return tokenOK
	}
	for _, row := range tokenOutcomes {
		if errors.Is(err, row.err) {
			return row.name
		}
	}
	return tokenOther
}
