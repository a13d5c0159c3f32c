package pkcs11hsm

/*
#cgo CFLAGS: -O2 -Wall -Wextra
#cgo linux LDFLAGS: -ldl
#cgo noescape kh_login
#cgo nocallback kh_login
#cgo noescape kh_random
#cgo nocallback kh_random
#cgo noescape kh_session_state
#cgo nocallback kh_session_state
#cgo noescape kh_encrypt_blocks
#cgo nocallback kh_encrypt_blocks
#cgo noescape kh_gcm
#cgo nocallback kh_gcm
#cgo noescape kh_run
#cgo nocallback kh_run
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/keyholt/keyholt/hsm"
)

// library is a loaded PKCS#11 module: the calls that the C shim makes. It must be
// initialised before use, which is not the library's business. Whoever calls it
// keeps a session to one goroutine at a time.
type library struct {
	functions *C.kh_functions
}

type (
	sessionHandle uint // CK_SESSION_HANDLE
	objectHandle  uint // CK_OBJECT_HANDLE
)

// gcmItem is one GCM operation as the shim takes it: offsets into two flat buffers.
type gcmItem = C.kh_gcm_item

type (
	// flatItem is one signature, tag or decryption as the shim takes it.
	flatItem = C.kh_item
	// flatMechanism is a mechanism as the shim takes it.
	flatMechanism = C.kh_mechanism
)

// loadLibrary loads the module at path. It is never unloaded: many modules cannot be.
func loadLibrary(path string) (*library, error) {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var reason [512]C.char
	functions := C.kh_load(cpath, &reason[0], C.size_t(len(reason)))
	if functions == nil {
		return nil, fmt.Errorf("%w: %s: %s", hsm.ErrModule, path, C.GoString(&reason[0]))
	}
	return &library{functions: functions}, nil
}

// bytePtr is the address of the first byte, or nil for an empty slice.
func bytePtr(b []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(unsafe.SliceData(b))) }

// login is C_Login as the given user. The module sees pin itself, not a copy.
func (l *library) login(s sessionHandle, user uint, pin []byte) returnCode {
	return returnCode(C.kh_login(l.functions, C.kh_ulong(s), C.kh_ulong(user), bytePtr(pin), C.kh_ulong(len(pin))))
}

// random is C_GenerateRandom.
func (l *library) random(s sessionHandle, p []byte) returnCode {
	return returnCode(C.kh_random(l.functions, C.kh_ulong(s), bytePtr(p), C.kh_ulong(len(p))))
}

// sessionState is the state of C_GetSessionInfo (CKS_...).
func (l *library) sessionState(s sessionHandle) (uint, returnCode) {
	var state C.kh_ulong
	rv := C.kh_session_state(l.functions, C.kh_ulong(s), &state)
	return uint(state), returnCode(rv)
}

// crossing is how one call into the shim ended.
type crossing struct {
	rv       returnCode
	function string // the PKCS#11 function that returned rv; empty if none failed
	done     int    // items processed, in order
	// inOperation: the session was left with an operation active, or may have been.
	inOperation bool
}

// encryptBlocks encrypts src into dst, of the same length and not overlapping.
func (l *library) encryptBlocks(s sessionHandle, key objectHandle, dst, src []byte) crossing {
	r := C.kh_encrypt_blocks(l.functions, C.kh_ulong(s), C.kh_ulong(key),
		bytePtr(src), bytePtr(dst), C.kh_ulong(len(src)))
	return newCrossing(r, "C_EncryptInit", "C_Encrypt")
}

// gcm seals or opens items, which point into in and out.
func (l *library) gcm(s sessionHandle, key objectHandle, open, noNonce bool, in, out []byte, items []gcmItem) crossing {
	r := C.kh_gcm(l.functions, C.kh_ulong(s), C.kh_ulong(key), cbool(open), cbool(noNonce),
		bytePtr(in), bytePtr(out), unsafe.SliceData(items), C.uint32_t(len(items)))
	if open {
		return newCrossing(r, "C_DecryptInit", "C_Decrypt")
	}
	return newCrossing(r, "C_EncryptInit", "C_Encrypt")
}

// run signs or decrypts items, which point into in and out.
func (l *library) run(s sessionHandle, key objectHandle, decrypt bool, m *flatMechanism, in, out []byte, items []flatItem) crossing {
	r := C.kh_run(l.functions, C.kh_ulong(s), C.kh_ulong(key), cbool(decrypt), m,
		bytePtr(in), bytePtr(out), unsafe.SliceData(items), C.uint32_t(len(items)))
	if decrypt {
		return newCrossing(r, "C_DecryptInit", "C_Decrypt")
	}
	return newCrossing(r, "C_SignInit", "C_Sign")
}

func newCrossing(r C.kh_result, init, op string) crossing {
	c := crossing{rv: returnCode(r.rv), done: int(r.done)}
	switch r.stage {
	case C.KH_INIT:
		c.function = init
	case C.KH_OP:
		c.function = op
		c.inOperation = c.rv == ckrBufferTooSmall
	case C.KH_SIZE:
		// A module that miscounts may have written anything: the session is not
		// to be trusted with another operation.
		c.rv, c.function, c.inOperation = ckrGeneralError, op, true
	}
	return c
}

func cbool(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// cString copies s to C memory that is never freed.
func cString(s string) unsafe.Pointer { return unsafe.Pointer(C.CString(s)) }

// newGCMItem describes an item whose nonce, AAD and input follow one another in the
// input buffer from offset at on.
func newGCMItem(at, nonce, aad, input, out, room int) gcmItem {
	return gcmItem{
		iv_off: C.uint32_t(at), iv_len: C.uint32_t(nonce),
		aad_off: C.uint32_t(at + nonce), aad_len: C.uint32_t(aad),
		in_off: C.uint32_t(at + nonce + aad), in_len: C.uint32_t(input),
		out_off: C.uint32_t(out), out_cap: C.uint32_t(room),
	}
}

// gcmSpans are an item's nonce and what the module wrote.
func gcmSpans(it *gcmItem, in, out []byte) (nonce, output []byte) {
	nonce = in[it.iv_off : it.iv_off+it.iv_len]
	end := it.out_off + it.out_len
	return nonce, out[it.out_off:end:end]
}

// newFlatItem describes an item whose input begins at in, and whose output at out.
func newFlatItem(in, length, out, room int) flatItem {
	return flatItem{
		in_off: C.uint32_t(in), in_len: C.uint32_t(length), out_off: C.uint32_t(out), out_cap: C.uint32_t(room),
	}
}

// outcome is an item's return code and what the module wrote.
func outcome(it *flatItem, out []byte) (rv returnCode, output []byte) {
	end := it.out_off + it.out_len
	return returnCode(it.rv), out[it.out_off:end:end]
}

// flat is the mechanism with a label that lies in the input buffer at the given place.
func (m mechanism) flat(labelAt int) flatMechanism {
	return flatMechanism{
		mechanism: C.kh_ulong(m.number), hash: C.kh_ulong(m.hash), mgf: C.kh_ulong(m.mgf), salt: C.kh_ulong(m.salt),
		parameters: C.uint32_t(m.parameters), label_off: C.uint32_t(labelAt), label_len: C.uint32_t(len(m.label)),
	}
}

// Which parameters a mechanism has.
const (
	parametersNone = C.KH_PLAIN
	parametersPSS  = C.KH_PSS
	parametersOAEP = C.KH_OAEP
)
