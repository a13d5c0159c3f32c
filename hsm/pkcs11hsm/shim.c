#include "shim.h"

#include <dlfcn.h>
#include <stdio.h>

#define CKR_OK 0x0UL
#define CKM_AES_ECB 0x1081UL
#define CKM_AES_GCM 0x1087UL
#define CKZ_DATA_SPECIFIED 0x1UL
#define GCM_TAG_BITS 128UL

typedef struct {
	kh_ulong mechanism;
	void *parameter;
	kh_ulong parameter_len;
} mechanism_t; /* CK_MECHANISM */

typedef struct {
	unsigned char *iv;
	kh_ulong iv_len;
	kh_ulong iv_bits;
	unsigned char *aad;
	kh_ulong aad_len;
	kh_ulong tag_bits;
} gcm_params_t; /* CK_GCM_PARAMS */

typedef struct {
	kh_ulong hash;
	kh_ulong mgf;
	kh_ulong salt_len;
} pss_params_t; /* CK_RSA_PKCS_PSS_PARAMS */

typedef struct {
	kh_ulong hash;
	kh_ulong mgf;
	kh_ulong source;
	void *source_data;
	kh_ulong source_data_len;
} oaep_params_t; /* CK_RSA_PKCS_OAEP_PARAMS */

typedef struct {
	kh_ulong slot;
	kh_ulong state;
	kh_ulong flags;
	kh_ulong device_error;
} session_info_t; /* CK_SESSION_INFO */

typedef kh_ulong (*init_fn)(kh_ulong session, mechanism_t *mechanism, kh_ulong key);
typedef kh_ulong (*crypt_fn)(kh_ulong session, unsigned char *in, kh_ulong in_len, unsigned char *out,
			     kh_ulong *out_len);
typedef void (*other_fn)(void);

/*
 * CK_FUNCTION_LIST of v2.40: a version, then 68 function pointers in the order of
 * the standard's pkcs11f.h. Only those that the shim calls are named. A module of a
 * later version has the same list as a prefix.
 */
struct kh_functions {
	struct {
		unsigned char major, minor;
	} version;
	other_fn before_session_info[15]; /* C_Initialize to C_CloseAllSessions */
	kh_ulong (*get_session_info)(kh_ulong session, session_info_t *info);
	other_fn before_login[2];
	kh_ulong (*login)(kh_ulong session, kh_ulong user, unsigned char *pin, kh_ulong pin_len);
	other_fn before_encrypt[10]; /* C_Logout to C_FindObjectsFinal */
	init_fn encrypt_init;
	crypt_fn encrypt;
	other_fn before_decrypt[2];
	init_fn decrypt_init;
	crypt_fn decrypt;
	other_fn before_sign[7]; /* C_DecryptUpdate to C_DigestFinal */
	init_fn sign_init;
	crypt_fn sign;
	other_fn before_random[20]; /* C_SignUpdate to C_SeedRandom */
	kh_ulong (*generate_random)(kh_ulong session, unsigned char *out, kh_ulong len);
	other_fn rest[3];
};

_Static_assert(sizeof(struct kh_functions) == 69 * sizeof(void *), "CK_FUNCTION_LIST has 68 functions");

const kh_functions *kh_load(const char *path, char *reason, size_t reason_len)
{
	kh_ulong (*get_function_list)(kh_functions **);
	kh_functions *list = NULL;
	kh_ulong rv;

	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL) {
		const char *why = dlerror();
		snprintf(reason, reason_len, "%s", why != NULL ? why : "dlopen failed");
		return NULL;
	}
	*(void **)&get_function_list = dlsym(handle, "C_GetFunctionList");
	if (get_function_list == NULL) {
		snprintf(reason, reason_len, "it has no C_GetFunctionList: not a PKCS#11 module");
		return NULL;
	}
	rv = get_function_list(&list);
	if (rv != CKR_OK || list == NULL) {
		snprintf(reason, reason_len, "C_GetFunctionList returned 0x%lx", rv);
		return NULL;
	}
	return list;
}

kh_ulong kh_login(const kh_functions *f, kh_ulong session, kh_ulong user, unsigned char *pin, kh_ulong pin_len)
{
	return f->login(session, user, pin_len != 0 ? pin : NULL, pin_len);
}

kh_ulong kh_random(const kh_functions *f, kh_ulong session, unsigned char *out, kh_ulong len)
{
	return f->generate_random(session, out, len);
}

kh_ulong kh_session_state(const kh_functions *f, kh_ulong session, kh_ulong *state)
{
	session_info_t info = {0};
	kh_ulong rv = f->get_session_info(session, &info);

	*state = info.state;
	return rv;
}

kh_result kh_encrypt_blocks(const kh_functions *f, kh_ulong session, kh_ulong key, unsigned char *in,
			    unsigned char *out, kh_ulong len)
{
	mechanism_t mechanism = {CKM_AES_ECB, NULL, 0};
	kh_ulong out_len = len;
	kh_result r = {CKR_OK, KH_INIT, 0};

	r.rv = f->encrypt_init(session, &mechanism, key);
	if (r.rv != CKR_OK)
		return r;
	r.stage = KH_OP;
	r.rv = f->encrypt(session, in, len, out, &out_len);
	if (r.rv != CKR_OK)
		return r;
	r.stage = out_len == len ? KH_DONE : KH_SIZE;
	r.done = 1;
	return r;
}

kh_result kh_gcm(const kh_functions *f, kh_ulong session, kh_ulong key, int decrypt, int iv_null, unsigned char *in,
		 unsigned char *out, kh_gcm_item *items, uint32_t n)
{
	init_fn init = decrypt ? f->decrypt_init : f->encrypt_init;
	crypt_fn crypt = decrypt ? f->decrypt : f->encrypt;
	kh_result r = {CKR_OK, KH_DONE, 0};

	for (; r.done < n; r.done++) {
		kh_gcm_item *it = &items[r.done];
		gcm_params_t params = {
			.iv = iv_null ? NULL : in + it->iv_off,
			.iv_len = iv_null ? 0 : it->iv_len,
			.iv_bits = iv_null ? 0 : it->iv_len * 8UL,
			.aad = in + it->aad_off,
			.aad_len = it->aad_len,
			.tag_bits = GCM_TAG_BITS,
		};
		mechanism_t mechanism = {CKM_AES_GCM, &params, sizeof params};
		kh_ulong out_len = it->out_cap;

		r.rv = init(session, &mechanism, key);
		if (r.rv != CKR_OK) {
			r.stage = KH_INIT;
			return r;
		}
		it->rv = crypt(session, in + it->in_off, it->in_len, out + it->out_off, &out_len);
		if (it->rv == CKR_OK && out_len > it->out_cap) {
			r.stage = KH_SIZE;
			return r;
		}
		it->out_len = it->rv == CKR_OK ? (uint32_t)out_len : 0;
	}
	return r;
}

kh_result kh_run(const kh_functions *f, kh_ulong session, kh_ulong key, int decrypt, const kh_mechanism *m,
		 unsigned char *in, unsigned char *out, kh_item *items, uint32_t n)
{
	init_fn init = decrypt ? f->decrypt_init : f->sign_init;
	crypt_fn run = decrypt ? f->decrypt : f->sign;
	kh_result r = {CKR_OK, KH_DONE, 0};

	for (; r.done < n; r.done++) {
		kh_item *it = &items[r.done];
		pss_params_t pss = {m->hash, m->mgf, m->salt};
		oaep_params_t oaep = {
			.hash = m->hash,
			.mgf = m->mgf,
			.source = CKZ_DATA_SPECIFIED,
			.source_data = m->label_len != 0 ? in + m->label_off : NULL,
			.source_data_len = m->label_len,
		};
		mechanism_t mechanism = {m->mechanism, NULL, 0};
		kh_ulong out_len = it->out_cap;

		if (m->parameters == KH_PSS) {
			mechanism.parameter = &pss;
			mechanism.parameter_len = sizeof pss;
		} else if (m->parameters == KH_OAEP) {
			mechanism.parameter = &oaep;
			mechanism.parameter_len = sizeof oaep;
		}
		r.rv = init(session, &mechanism, key);
		if (r.rv != CKR_OK) {
			r.stage = KH_INIT;
			return r;
		}
		it->rv = run(session, in + it->in_off, it->in_len, out + it->out_off, &out_len);
		if (it->rv == CKR_OK && out_len > it->out_cap) {
			r.stage = KH_SIZE;
			return r;
		}
		it->out_len = it->rv == CKR_OK ? (uint32_t)out_len : 0;
	}
	return r;
}
