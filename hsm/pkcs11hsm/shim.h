/*
 * A small shim over the function list of a PKCS#11 module, for the calls that are
 * on the hot path or carry a PIN. Every buffer belongs to the caller: the shim
 * allocates nothing, asks no sizes and so has nothing to leak when a call fails.
 *
 * It keeps no state and takes no decision about return codes: that is Go's.
 *
 * Types are those of PKCS#11 v2.40 with the platform's own packing (every Unix).
 */
#ifndef KEYHOLT_PKCS11_SHIM_H
#define KEYHOLT_PKCS11_SHIM_H

#include <stddef.h>
#include <stdint.h>

typedef unsigned long kh_ulong;           /* CK_ULONG, CK_RV and every handle */
typedef struct kh_functions kh_functions; /* CK_FUNCTION_LIST */

/* Where a crossing ended. */
enum {
	KH_DONE = 0, /* every item was processed */
	KH_INIT = 1, /* C_EncryptInit, C_DecryptInit or C_SignInit of item `done` failed */
	KH_OP = 2,   /* C_Encrypt or C_Decrypt failed (blocks only) */
	KH_SIZE = 3  /* the module reported an output length that cannot be */
};

typedef struct {
	kh_ulong rv;    /* CKR_OK, or what failed at `stage` */
	uint32_t stage; /* KH_... */
	uint32_t done;  /* items processed, in order */
} kh_result;

/*
 * One GCM operation. Offsets and lengths are in bytes. iv, aad and input lie in the
 * input buffer, output in the output buffer. A module that chooses nonces writes
 * its own over iv, or appends it to the output.
 */
typedef struct {
	uint32_t iv_off, iv_len;
	uint32_t aad_off, aad_len;
	uint32_t in_off, in_len;
	uint32_t out_off, out_cap;
	uint32_t out_len; /* set: bytes written */
	uint32_t unused;
	kh_ulong rv; /* set: return code of C_Encrypt or C_Decrypt */
} kh_gcm_item;

/* How kh_mechanism says which parameters the mechanism has. */
enum {
	KH_PLAIN = 0, /* none */
	KH_PSS = 1,   /* CK_RSA_PKCS_PSS_PARAMS of hash, mgf, salt */
	KH_OAEP = 2   /* CK_RSA_PKCS_OAEP_PARAMS of hash, mgf, label */
};

/* A mechanism, flat. label lies in the input buffer. */
typedef struct {
	kh_ulong mechanism, hash, mgf, salt;
	uint32_t parameters; /* KH_PLAIN, ... */
	uint32_t label_off, label_len;
	uint32_t unused;
} kh_mechanism;

/* One signature, tag or decryption: input in the input buffer, output in the other. */
typedef struct {
	uint32_t in_off, in_len;
	uint32_t out_off, out_cap;
	uint32_t out_len; /* set: bytes written */
	uint32_t unused;
	kh_ulong rv; /* set: return code of C_Sign or C_Decrypt */
} kh_item;

/*
 * kh_load loads the module and finds its function list. On failure it returns NULL
 * and writes a reason of at most reason_len bytes, terminated. The module is never
 * unloaded.
 */
const kh_functions *kh_load(const char *path, char *reason, size_t reason_len);

/* kh_login is C_Login. pin is not copied. */
kh_ulong kh_login(const kh_functions *f, kh_ulong session, kh_ulong user, unsigned char *pin, kh_ulong pin_len);

/* kh_random is C_GenerateRandom. */
kh_ulong kh_random(const kh_functions *f, kh_ulong session, unsigned char *out, kh_ulong len);

/* kh_session_state is C_GetSessionInfo; it sets CK_SESSION_INFO's state. */
kh_ulong kh_session_state(const kh_functions *f, kh_ulong session, kh_ulong *state);

/* kh_encrypt_blocks is one C_EncryptInit and one C_Encrypt with CKM_AES_ECB; out has len bytes. */
kh_result kh_encrypt_blocks(const kh_functions *f, kh_ulong session, kh_ulong key, unsigned char *in,
			    unsigned char *out, kh_ulong len);

/*
 * kh_gcm runs items under one key: Init and operation of each. It stops at an Init
 * that fails, since that mostly concerns all items; a failed operation is recorded
 * in its item and the next item follows. With iv_null the module gets no nonce.
 */
kh_result kh_gcm(const kh_functions *f, kh_ulong session, kh_ulong key, int decrypt, int iv_null, unsigned char *in,
		 unsigned char *out, kh_gcm_item *items, uint32_t n);

/*
 * kh_run runs items under one key and mechanism: C_SignInit and C_Sign of each, or with
 * decrypt C_DecryptInit and C_Decrypt. It stops where kh_gcm does.
 */
kh_result kh_run(const kh_functions *f, kh_ulong session, kh_ulong key, int decrypt, const kh_mechanism *m,
		 unsigned char *in, unsigned char *out, kh_item *items, uint32_t n);

#endif
