/*
 * A PKCS#11 module for tests: it passes everything on to the module that the
 * environment variable KEYHOLT_PROXY_MODULE names, and behaves as other modules do,
 * or fails, where it is told to. It is told by commands, one a line, in the
 * environment variable KEYHOLT_PROXY when it is initialised, and in the data of
 * C_SeedRandom at any time:
 *
 *   nonce own        GCM: write a nonce of its own over the caller's (AWS CloudHSM)
 *   nonce append     GCM: append a 16-byte nonce of its own to the output (Luna)
 *   nonce refuse     the same, and refuse a nonce from the caller
 *   limit N          C_Encrypt of more than N bytes: CKR_DATA_LEN_RANGE
 *   fail F N RV      the next N calls of function F (its number in the function list)
 *                    return RV; an active operation ends
 *   small            C_Encrypt of any length: CKR_BUFFER_TOO_SMALL, once
 *   hold B           C_Sign of what begins with the byte B does not return before "release";
 *                    while one is held CK_TOKEN_INFO has the flag 0x40000000
 *   hide M           leave mechanism M out of C_GetMechanismList
 *   sessions N       C_OpenSession while N are open: CKR_SESSION_COUNT, of which the token's
 *                    information says nothing
 *   flags F          add flags F to CK_TOKEN_INFO
 *   weaken A V       C_GenerateKey, C_GenerateKeyPair (private key) and C_UnwrapKey: give the
 *                    Boolean attribute A the value V, whatever the template says
 *   gone             from now on CKR_TOKEN_NOT_PRESENT, until C_Finalize
 *   reset            as if nothing had been said
 *   once ...         before other commands of KEYHOLT_PROXY: for the first initialisation only
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long ulong_t;
typedef void (*any_fn)(void);
typedef struct {
	unsigned char version[sizeof(void *)];
	any_fn f[68];
} list_t;
typedef struct {
	ulong_t mechanism;
	void *parameter;
	ulong_t parameter_len;
} mechanism_t;
typedef struct {
	unsigned char *iv;
	ulong_t iv_len, iv_bits;
	unsigned char *aad;
	ulong_t aad_len, tag_bits;
} gcm_t;
typedef struct {
	ulong_t type;
	void *value;
	ulong_t len;
} attribute_t;

enum {
	INITIALIZE = 0, FINALIZE = 1, GET_INFO = 2, GET_FUNCTION_LIST = 3, GET_TOKEN_INFO = 6, GET_MECHANISM_LIST = 7,
	OPEN_SESSION = 12, CLOSE_SESSION = 13, CLOSE_ALL_SESSIONS = 14, GET_SESSION_INFO = 15, LOGIN = 18, CREATE_OBJECT = 20, DESTROY_OBJECT = 22, SET_ATTRIBUTE = 25, ENCRYPT_INIT = 29, ENCRYPT = 30, DECRYPT_INIT = 33, DECRYPT = 34,
	SIGN_INIT = 42, SIGN = 43, GENERATE_KEY = 58, GENERATE_KEY_PAIR = 59, UNWRAP_KEY = 61, SEED_RANDOM = 63, GENERATE_RANDOM = 64, FUNCTIONS = 68
};
#define DATA_LEN_RANGE 0x21UL
#define MECHANISM_PARAM_INVALID 0x71UL
#define SESSION_COUNT 0xb1UL
#define TOKEN_NOT_PRESENT 0xe0UL
#define BUFFER_TOO_SMALL 0x150UL
#define AES_GCM 0x1087UL
#define HELD 0x40000000UL

static list_t *real, proxy;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	char nonce;
	ulong_t limit, hidden, flags, sessions;
	int gone, small, weaken;
	ulong_t weak_attribute;
	unsigned char weak_value;
	ulong_t fail_count[FUNCTIONS], fail_rv[FUNCTIONS];
	int hold; /* the byte, less 256; 0: none */
} told;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;
static int held;
static ulong_t sessions; /* that are open */
/* The nonce of the GCM operation of this thread: Init and operation follow at once. */
static __thread unsigned char own_nonce[16];
static __thread int append_nonce;

static void obey(const char *text, size_t len)
{
	char line[4096], *rest, *next;

	if (len >= sizeof line)
		return;
	memcpy(line, text, len);
	line[len] = 0;
	pthread_mutex_lock(&lock);
	for (rest = line; (next = strsep(&rest, "\n")) != NULL;) {
		char word[16] = "";
		ulong_t a, b, c;

		if (sscanf(next, "nonce %15s", word) == 1)
			told.nonce = word[0];
		else if (sscanf(next, "limit %lu", &a) == 1)
			told.limit = a;
		else if (sscanf(next, "sessions %lu", &a) == 1)
			told.sessions = a;
		else if (sscanf(next, "flags %li", (long *)&a) == 1)
			told.flags = a;
		else if (sscanf(next, "hide %li", (long *)&a) == 1)
			told.hidden = a;
		else if (sscanf(next, "weaken %li %lu", (long *)&a, &b) == 2) {
			told.weaken = 1;
			told.weak_attribute = a;
			told.weak_value = b;
		} else if (sscanf(next, "fail %lu %lu %li", &a, &b, (long *)&c) == 3 && a < FUNCTIONS) {
			told.fail_count[a] = b;
			told.fail_rv[a] = c;
		} else if (strcmp(next, "gone") == 0)
			told.gone = 1;
		else if (strcmp(next, "small") == 0)
			told.small = 1;
		else if (sscanf(next, "hold %li", (long *)&a) == 1)
			told.hold = (int)a - 256;
		else if (strcmp(next, "release") == 0)
			told.hold = 0;
		else if (strcmp(next, "reset") == 0)
			memset(&told, 0, sizeof told);
	}
	pthread_cond_broadcast(&released);
	pthread_mutex_unlock(&lock);
}

/* told_to_fail returns what function f is to return instead of working, or 0. */
static ulong_t told_to_fail(int f)
{
	ulong_t rv = 0;

	pthread_mutex_lock(&lock);
	if (told.gone)
		rv = TOKEN_NOT_PRESENT;
	else if (told.fail_count[f] > 0) {
		told.fail_count[f]--;
		rv = told.fail_rv[f];
	}
	pthread_mutex_unlock(&lock);
	return rv;
}

static ulong_t initialize(void *args)
{
	const char *commands = getenv("KEYHOLT_PROXY");
	static int said_once;

	if (commands != NULL && strncmp(commands, "once ", 5) == 0)
		commands = said_once++ ? NULL : commands + 5;
	if (commands != NULL)
		obey(commands, strlen(commands));
	return ((ulong_t(*)(void *))real->f[INITIALIZE])(args);
}

static ulong_t finalize(void *reserved)
{
	obey("reset", 5);
	pthread_mutex_lock(&lock);
	sessions = 0;
	pthread_mutex_unlock(&lock);
	return ((ulong_t(*)(void *))real->f[FINALIZE])(reserved);
}

static ulong_t seed_random(ulong_t session, unsigned char *data, ulong_t len)
{
	(void)session;
	obey((char *)data, len);
	return 0;
}

static ulong_t get_token_info(ulong_t slot, void *info)
{
	ulong_t rv = told_to_fail(GET_TOKEN_INFO);

	if (rv == 0)
		rv = ((ulong_t(*)(ulong_t, void *))real->f[GET_TOKEN_INFO])(slot, info);
	pthread_mutex_lock(&lock);
	if (rv == 0) /* flags follow label, manufacturer, model and serial number */
		*(ulong_t *)((char *)info + 32 + 32 + 16 + 16) |= told.flags | (held > 0 ? HELD : 0);
	pthread_mutex_unlock(&lock);
	return rv;
}

static ulong_t login(ulong_t session, ulong_t user, unsigned char *pin, ulong_t len)
{
	ulong_t rv = told_to_fail(LOGIN);

	return rv ? rv
		  : ((ulong_t(*)(ulong_t, ulong_t, unsigned char *, ulong_t))real->f[LOGIN])(session, user, pin, len);
}

static ulong_t destroy_object(ulong_t session, ulong_t object)
{
	ulong_t rv = told_to_fail(DESTROY_OBJECT);

	return rv ? rv : ((ulong_t(*)(ulong_t, ulong_t))real->f[DESTROY_OBJECT])(session, object);
}

static ulong_t set_attribute(ulong_t session, ulong_t object, void *template, ulong_t count)
{
	ulong_t rv = told_to_fail(SET_ATTRIBUTE);

	return rv ? rv
		  : ((ulong_t(*)(ulong_t, ulong_t, void *, ulong_t))real->f[SET_ATTRIBUTE])(session, object, template, count);
}

static ulong_t open_session(ulong_t slot, ulong_t flags, void *app, void *notify, ulong_t *session)
{
	ulong_t rv = told_to_fail(OPEN_SESSION);

	pthread_mutex_lock(&lock);
	if (rv == 0 && told.sessions != 0 && sessions >= told.sessions)
		rv = SESSION_COUNT;
	if (rv == 0) {
		rv = ((ulong_t(*)(ulong_t, ulong_t, void *, void *, ulong_t *))real->f[OPEN_SESSION])(slot, flags, app, notify,
												      session);
		sessions += rv == 0;
	}
	pthread_mutex_unlock(&lock);
	return rv;
}

static ulong_t close_session(ulong_t session)
{
	ulong_t rv = ((ulong_t(*)(ulong_t))real->f[CLOSE_SESSION])(session);

	pthread_mutex_lock(&lock);
	sessions -= rv == 0 && sessions > 0;
	pthread_mutex_unlock(&lock);
	return rv;
}

static ulong_t close_all_sessions(ulong_t slot)
{
	pthread_mutex_lock(&lock);
	sessions = 0;
	pthread_mutex_unlock(&lock);
	return ((ulong_t(*)(ulong_t))real->f[CLOSE_ALL_SESSIONS])(slot);
}

static ulong_t get_session_info(ulong_t session, void *info)
{
	ulong_t rv = told_to_fail(GET_SESSION_INFO);

	return rv ? rv : ((ulong_t(*)(ulong_t, void *))real->f[GET_SESSION_INFO])(session, info);
}

static ulong_t get_mechanism_list(ulong_t slot, ulong_t *list, ulong_t *count)
{
	ulong_t rv = ((ulong_t(*)(ulong_t, ulong_t *, ulong_t *))real->f[GET_MECHANISM_LIST])(slot, list, count), i;

	if (rv != 0 || list == NULL || told.hidden == 0)
		return rv;
	for (i = 0; i < *count; i++)
		if (list[i] == told.hidden)
			list[i] = 0x80000000UL;
	return 0;
}

static ulong_t encrypt_init(ulong_t session, mechanism_t *mechanism, ulong_t key)
{
	ulong_t (*next)(ulong_t, mechanism_t *, ulong_t) = (void *)real->f[ENCRYPT_INIT];
	ulong_t rv = told_to_fail(ENCRYPT_INIT);
	gcm_t params;
	mechanism_t changed;

	append_nonce = 0;
	if (rv != 0)
		return rv;
	if (mechanism->mechanism != AES_GCM || told.nonce == 0)
		return next(session, mechanism, key);
	params = *(gcm_t *)mechanism->parameter;
	if (told.nonce == 'r' && params.iv != NULL)
		return MECHANISM_PARAM_INVALID;
	((ulong_t(*)(ulong_t, unsigned char *, ulong_t))real->f[GENERATE_RANDOM])(session, own_nonce, sizeof own_nonce);
	if (told.nonce == 'o') {
		memcpy(params.iv, own_nonce, params.iv_len);
		return next(session, mechanism, key);
	}
	append_nonce = 1;
	params.iv = own_nonce;
	params.iv_len = sizeof own_nonce;
	params.iv_bits = 8 * sizeof own_nonce;
	changed = *mechanism;
	changed.parameter = &params;
	return next(session, &changed, key);
}

static ulong_t encrypt(ulong_t session, unsigned char *in, ulong_t len, unsigned char *out, ulong_t *out_len)
{
	ulong_t (*next)(ulong_t, unsigned char *, ulong_t, unsigned char *, ulong_t *) = (void *)real->f[ENCRYPT];
	ulong_t rv = told_to_fail(ENCRYPT);
	int small;

	pthread_mutex_lock(&lock);
	small = told.small;
	told.small = 0;
	pthread_mutex_unlock(&lock);
	if (small)
		return BUFFER_TOO_SMALL; /* and the operation stays active, as the standard has it */
	if (rv == 0 && told.limit != 0 && len > told.limit)
		rv = DATA_LEN_RANGE;
	if (rv != 0) {
		next(session, in, len, out, out_len); /* end the operation */
		memset(out, 0xee, len);
		return rv;
	}
	rv = next(session, in, len, out, out_len);
	if (rv == 0 && append_nonce) {
		memcpy(out + *out_len, own_nonce, sizeof own_nonce);
		*out_len += sizeof own_nonce;
	}
	return rv;
}

static ulong_t decrypt_init(ulong_t session, mechanism_t *mechanism, ulong_t key)
{
	ulong_t rv = told_to_fail(DECRYPT_INIT);

	return rv ? rv : ((ulong_t(*)(ulong_t, mechanism_t *, ulong_t))real->f[DECRYPT_INIT])(session, mechanism, key);
}

static ulong_t decrypt(ulong_t session, unsigned char *in, ulong_t len, unsigned char *out, ulong_t *out_len)
{
	ulong_t (*next)(ulong_t, unsigned char *, ulong_t, unsigned char *, ulong_t *) = (void *)real->f[DECRYPT];
	ulong_t rv = told_to_fail(DECRYPT);

	if (rv != 0) {
		next(session, in, len, out, out_len);
		return rv;
	}
	return next(session, in, len, out, out_len);
}

static ulong_t create_object(ulong_t session, void *template, ulong_t count, ulong_t *object)
{
	ulong_t rv = told_to_fail(CREATE_OBJECT);

	return rv ? rv : ((ulong_t(*)(ulong_t, void *, ulong_t, ulong_t *))real->f[CREATE_OBJECT])(session, template, count, object);
}

static ulong_t sign_init(ulong_t session, mechanism_t *mechanism, ulong_t key)
{
	ulong_t rv = told_to_fail(SIGN_INIT);

	return rv ? rv : ((ulong_t(*)(ulong_t, mechanism_t *, ulong_t))real->f[SIGN_INIT])(session, mechanism, key);
}

static ulong_t sign(ulong_t session, unsigned char *in, ulong_t len, unsigned char *out, ulong_t *out_len)
{
	ulong_t (*next)(ulong_t, unsigned char *, ulong_t, unsigned char *, ulong_t *) = (void *)real->f[SIGN];
	ulong_t rv = told_to_fail(SIGN);

	pthread_mutex_lock(&lock);
	for (held++; len > 0 && told.hold == in[0] - 256;)
		pthread_cond_wait(&released, &lock);
	held--;
	pthread_mutex_unlock(&lock);
	if (rv != 0) {
		next(session, in, len, out, out_len); /* end the operation */
		return rv;
	}
	return next(session, in, len, out, out_len);
}

/* weakened is the template, changed as it was told; copy has room for MOST attributes. */
#define MOST 64
static attribute_t *weakened(attribute_t *template, ulong_t count, attribute_t *copy)
{
	ulong_t i;

	if (!told.weaken || count > MOST)
		return template;
	memcpy(copy, template, count * sizeof copy[0]);
	for (i = 0; i < count; i++)
		if (copy[i].type == told.weak_attribute) {
			copy[i].value = &told.weak_value;
			copy[i].len = sizeof told.weak_value;
		}
	return copy;
}

static ulong_t generate_key(ulong_t session, mechanism_t *mechanism, attribute_t *template, ulong_t count, ulong_t *key)
{
	ulong_t (*next)(ulong_t, mechanism_t *, attribute_t *, ulong_t, ulong_t *) = (void *)real->f[GENERATE_KEY];
	attribute_t copy[MOST];
	ulong_t rv = told_to_fail(GENERATE_KEY);

	return rv ? rv : next(session, mechanism, weakened(template, count, copy), count, key);
}

static ulong_t generate_key_pair(ulong_t session, mechanism_t *mechanism, attribute_t *public, ulong_t public_count,
				 attribute_t *private, ulong_t private_count, ulong_t *public_key, ulong_t *private_key)
{
	ulong_t (*next)(ulong_t, mechanism_t *, attribute_t *, ulong_t, attribute_t *, ulong_t, ulong_t *, ulong_t *) =
		(void *)real->f[GENERATE_KEY_PAIR];
	attribute_t copy[MOST];
	ulong_t rv = told_to_fail(GENERATE_KEY_PAIR);

	return rv ? rv
		  : next(session, mechanism, public, public_count, weakened(private, private_count, copy), private_count,
			 public_key, private_key);
}

static ulong_t unwrap_key(ulong_t session, mechanism_t *mechanism, ulong_t by, unsigned char *wrapped, ulong_t len,
			  attribute_t *template, ulong_t count, ulong_t *key)
{
	ulong_t (*next)(ulong_t, mechanism_t *, ulong_t, unsigned char *, ulong_t, attribute_t *, ulong_t, ulong_t *) =
		(void *)real->f[UNWRAP_KEY];
	attribute_t copy[MOST];
	ulong_t rv = told_to_fail(UNWRAP_KEY);

	return rv ? rv : next(session, mechanism, by, wrapped, len, weakened(template, count, copy), count, key);
}

ulong_t C_GetFunctionList(list_t **list)
{
	const char *module = getenv("KEYHOLT_PROXY_MODULE");
	ulong_t (*get)(list_t **);
	void *handle = module != NULL ? dlopen(module, RTLD_NOW) : NULL;

	if (handle == NULL || (*(void **)&get = dlsym(handle, "C_GetFunctionList")) == NULL || get(&real) != 0)
		return 0x5;
	proxy = *real;
	proxy.f[INITIALIZE] = (any_fn)initialize;
	proxy.f[FINALIZE] = (any_fn)finalize;
	proxy.f[GET_FUNCTION_LIST] = (any_fn)C_GetFunctionList;
	proxy.f[GET_TOKEN_INFO] = (any_fn)get_token_info;
	proxy.f[GET_MECHANISM_LIST] = (any_fn)get_mechanism_list;
	proxy.f[OPEN_SESSION] = (any_fn)open_session;
	proxy.f[CLOSE_SESSION] = (any_fn)close_session;
	proxy.f[CLOSE_ALL_SESSIONS] = (any_fn)close_all_sessions;
	proxy.f[GET_SESSION_INFO] = (any_fn)get_session_info;
	proxy.f[LOGIN] = (any_fn)login;
	proxy.f[DESTROY_OBJECT] = (any_fn)destroy_object;
	proxy.f[SET_ATTRIBUTE] = (any_fn)set_attribute;
	proxy.f[ENCRYPT_INIT] = (any_fn)encrypt_init;
	proxy.f[ENCRYPT] = (any_fn)encrypt;
	proxy.f[DECRYPT_INIT] = (any_fn)decrypt_init;
	proxy.f[DECRYPT] = (any_fn)decrypt;
	proxy.f[CREATE_OBJECT] = (any_fn)create_object;
	proxy.f[SIGN_INIT] = (any_fn)sign_init;
	proxy.f[SIGN] = (any_fn)sign;
	proxy.f[GENERATE_KEY] = (any_fn)generate_key;
	proxy.f[GENERATE_KEY_PAIR] = (any_fn)generate_key_pair;
	proxy.f[UNWRAP_KEY] = (any_fn)unwrap_key;
	proxy.f[SEED_RANDOM] = (any_fn)seed_random;
	*list = &proxy;
	return 0;
}
