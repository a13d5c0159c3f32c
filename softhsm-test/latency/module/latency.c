/*
 * A PKCS#11 module that stands before another one and takes its time, as an HSM behind a
 * network does. It forwards every call; chosen ones it serves only after a delay. It is
 * for benchmarks and tests: it adds latency to a real module and changes nothing else.
 *
 * The environment configures it, once, when C_GetFunctionList first succeeds:
 *
 *   KEYHOLT_LATENCY_MODULE    path of the real module; required
 *   KEYHOLT_LATENCY_DELAY     how long a delayed call takes beside the real module's own
 *                             time, such as 5ms, 800us or 1.5ms; at most 1h; default 0
 *   KEYHOLT_LATENCY_CALLS     which calls are delayed, names of functions separated by
 *                             commas; default C_Encrypt,C_Decrypt,C_Sign,C_GenerateRandom
 *   KEYHOLT_LATENCY_SESSIONS  how many delayed calls are served at a time; those beyond
 *                             wait, and are then served in no particular order. Default 0:
 *                             as many as there are sessions to make them
 *
 * What is wrong with the configuration is said on standard error, and C_GetFunctionList
 * fails. Every function may be called from several threads at once.
 */
#ifdef __linux__
#define _GNU_SOURCE
#include <sys/prctl.h>
#endif
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "functions.h"

#define MODULE "KEYHOLT_LATENCY_MODULE"
#define DELAY "KEYHOLT_LATENCY_DELAY"
#define CALLS "KEYHOLT_LATENCY_CALLS"
#define SESSIONS "KEYHOLT_LATENCY_SESSIONS"

#define DEFAULT_CALLS "C_Encrypt,C_Decrypt,C_Sign,C_GenerateRandom"
#define SECOND 1000000000LL
#define MAX_DELAY (3600 * SECOND)
#define MAX_SESSIONS 1000000L

/* Set under `loading` before the list is handed out, and not changed afterwards. */
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;
static function_list_t *real; /* NULL until the module is configured */
static function_list_t ours;  /* what callers get */
static long long delay;       /* nanoseconds */
static long capacity;         /* delayed calls served at a time; 0: any number */

/* The delayed calls that are being served. */
static pthread_mutex_t serving = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t served = PTHREAD_COND_INITIALIZER;
static long in_service;

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

/* pause_for waits until the time is over, also when signals interrupt: Go's do. */
static void pause_for(long long duration)
{
	long long end = now() + duration, left;
#ifdef __linux__
	/* The kernel may let a sleep last longer by the thread's slack, 50 us by default. */
	int slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);

	prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
#endif
	while ((left = end - now()) > 0) {
		struct timespec t = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};

		nanosleep(&t, NULL);
	}
#ifdef __linux__
	if (slack > 0)
		prctl(PR_SET_TIMERSLACK, (unsigned long)slack, 0, 0, 0);
#endif
}

/* before is what happens to a delayed call before the real module gets it. */
static void before(void)
{
	if (capacity > 0) {
		pthread_mutex_lock(&serving);
		while (in_service >= capacity)
			pthread_cond_wait(&served, &serving);
		in_service++;
		pthread_mutex_unlock(&serving);
	}
	if (delay > 0)
		pause_for(delay);
}

/* after is what happens when the real module has returned from it. */
static void after(void)
{
	if (capacity > 0) {
		pthread_mutex_lock(&serving);
		in_service--;
		pthread_cond_signal(&served);
		pthread_mutex_unlock(&serving);
	}
}

/* A delayed function for each of the list; those that are chosen replace the real ones. */
#define DELAYED(name, n) \
	static word_t delayed_##name(PARAMETERS_##n) \
	{ \
		word_t rv; \
\
		before(); \
		rv = ((word_t(*)(PARAMETERS_##n))real->function[NUMBER_##name])(ARGUMENTS_##n); \
		after(); \
		return rv; \
	}
FUNCTIONS(DELAYED)

#define ENTRY(name, n) {#name, (function_t)delayed_##name},
static const struct {
	const char *name;
	function_t delayed;
} table[FUNCTION_COUNT] = {FUNCTIONS(ENTRY)};

/* complain says on standard error why the module is of no use, and returns rv. */
static word_t complain(word_t rv, const char *format, ...)
{
	va_list args;

	flockfile(stderr);
	fputs("keyholt latency module: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	funlockfile(stderr);
	return rv;
}

/* parse_delay reads a number and its unit. */
static word_t parse_delay(const char *text)
{
	static const struct {
		const char *name;
		double nanoseconds;
	} units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
	char *unit = NULL;
	double number;
	size_t i;

	delay = 0;
	if (text == NULL || strcmp(text, "0") == 0)
		return CKR_OK;
	number = strtod(text, &unit);
	for (i = 0; i < sizeof units / sizeof *units; i++) {
		double nanoseconds = number * units[i].nanoseconds;

		if (unit == text || strcmp(unit, units[i].name) != 0)
			continue;
		if (!(nanoseconds >= 0 && nanoseconds <= MAX_DELAY)) /* not a number, too */
			break;
		delay = (long long)(nanoseconds + 0.5);
		return CKR_OK;
	}
	return complain(CKR_ARGUMENTS_BAD, DELAY "=%s: want a duration up to 1h, such as 5ms or 800us", text);
}

static word_t parse_sessions(const char *text)
{
	char *end = NULL;

	capacity = 0;
	if (text == NULL)
		return CKR_OK;
	capacity = strtol(text, &end, 10);
	if (end != text && *end == 0 && capacity >= 0 && capacity <= MAX_SESSIONS)
		return CKR_OK;
	return complain(CKR_ARGUMENTS_BAD, SESSIONS "=%s: want a number, or 0 for no limit", text);
}

/* choose_calls puts the delayed functions in the place of the real ones that text names. */
static word_t choose_calls(const char *text)
{
	for (;;) {
		size_t len = strcspn(text, ","), i = 0;

		while (i < FUNCTION_COUNT && (strlen(table[i].name) != len || strncmp(table[i].name, text, len) != 0))
			i++;
		if (i == FUNCTION_COUNT || i == NUMBER_C_GetFunctionList)
			return complain(CKR_ARGUMENTS_BAD, CALLS ": %.*s is no function that can be delayed", (int)len, text);
		ours.function[i] = table[i].delayed;
		if (text[len] == 0)
			return CKR_OK;
		text += len + 1;
	}
}

__attribute__((visibility("default"))) word_t C_GetFunctionList(function_list_t **list);

/* load finds the real module and its list of functions. */
static word_t load(const char *path, function_list_t **list)
{
	word_t (*get)(function_list_t **);
	void *handle;
	word_t rv;

	if (path == NULL || *path == 0)
		return complain(CKR_ARGUMENTS_BAD, MODULE " is not set: it is the path of the real PKCS#11 module");
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* for good: many modules cannot be unloaded */
	if (handle == NULL)
		return complain(CKR_GENERAL_ERROR, MODULE "=%s: %s", path, dlerror());
	*(void **)&get = dlsym(handle, "C_GetFunctionList");
	if (get == NULL)
		return complain(CKR_GENERAL_ERROR, MODULE "=%s: not a PKCS#11 module: it has no C_GetFunctionList", path);
	if (get == C_GetFunctionList)
		return complain(CKR_ARGUMENTS_BAD, MODULE "=%s: that is this module, not the real one", path);
	rv = get(list);
	if (rv == CKR_OK && *list != NULL)
		return CKR_OK;
	return complain(rv != CKR_OK ? rv : CKR_GENERAL_ERROR, MODULE "=%s: C_GetFunctionList returned 0x%lx", path, rv);
}

/* configure does everything that happens once. Its caller holds `loading`. */
static word_t configure(void)
{
	const char *calls = getenv(CALLS);
	function_list_t *found = NULL;
	word_t rv;

	if ((rv = parse_delay(getenv(DELAY))) != CKR_OK || (rv = parse_sessions(getenv(SESSIONS))) != CKR_OK ||
	    (rv = load(getenv(MODULE), &found)) != CKR_OK)
		return rv;
	/* Its functions, but not more than the list of v2.40 promises. */
	memcpy(&ours, found, sizeof ours);
	ours.function[NUMBER_C_GetFunctionList] = (function_t)C_GetFunctionList;
	if ((rv = choose_calls(calls != NULL ? calls : DEFAULT_CALLS)) != CKR_OK)
		return rv;
	real = found;
	return CKR_OK;
}

word_t C_GetFunctionList(function_list_t **list)
{
	word_t rv = CKR_OK;

	if (list == NULL)
		return CKR_ARGUMENTS_BAD;
	pthread_mutex_lock(&loading);
	if (real == NULL)
		rv = configure();
	pthread_mutex_unlock(&loading);
	if (rv == CKR_OK)
		*list = &ours;
	return rv;
}
