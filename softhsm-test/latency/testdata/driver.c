/*
 * driver PEER MODULE TEST: calls the module, which stands before the peer, and looks at
 * what the peer saw. Ends with 0 if that is right; else standard error says what is not.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../module/functions.h"

static function_list_t *list;
static word_t *peer_calls, (*peer_arguments)[8];
static long *peer_meet, *peer_most;

static void fail(const char *what, word_t got, word_t want)
{
	fprintf(stderr, "%s: 0x%lx, want 0x%lx\n", what, got, want);
	exit(1);
}

static void *symbol(void *handle, const char *name)
{
	void *found = handle != NULL ? dlsym(handle, name) : NULL;

	if (found == NULL) {
		fprintf(stderr, "%s: %s\n", name, dlerror());
		exit(1);
	}
	return found;
}

/* call calls the function of a number with the arguments 16*number + 1, 2 and so on. */
#define CASE(name, n) \
	case NUMBER_##name: { \
		word_t a = 16 * number + 1, b = a + 1, c = a + 2, d = a + 3, e = a + 4, f = a + 5, g = a + 6, h = a + 7; \
		(void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h; \
		return ((word_t(*)(PARAMETERS_##n))list->function[number])(ARGUMENTS_##n); \
	}
static word_t call(int number)
{
	switch (number) {
		FUNCTIONS(CASE)
	}
	return 0;
}

/* forward: each function gets to the peer once, with its arguments, and its result back. */
#define COUNT(name, n) n,
static void test_forward(void)
{
	static const int parameters[] = {FUNCTIONS(COUNT)};
	int number, i;

	if (list->version.major != 2 || list->version.minor != 40)
		fail("version", list->version.major, 2);
	for (number = 0; number < FUNCTION_COUNT; number++) {
		word_t rv;

		if (number == NUMBER_C_GetFunctionList)
			continue;
		if ((rv = call(number)) != 0x1000UL + number)
			fail("result", rv, 0x1000UL + number);
		if (peer_calls[number] != 1)
			fail("calls", peer_calls[number], 1);
		for (i = 0; i < parameters[number]; i++)
			if (peer_arguments[number][i] != 16UL * number + 1 + i)
				fail("argument", peer_arguments[number][i], 16UL * number + 1 + i);
	}
}

/* itself: the list names the module's own C_GetFunctionList, not the peer's. */
static void test_itself(void)
{
	function_list_t *again = NULL;
	word_t rv = ((word_t(*)(function_list_t **))list->function[NUMBER_C_GetFunctionList])(&again);

	if (rv != CKR_OK || again != list)
		fail("C_GetFunctionList of the list", rv, CKR_OK);
	rv = ((word_t(*)(function_list_t **))list->function[NUMBER_C_GetFunctionList])(NULL);
	if (rv != CKR_ARGUMENTS_BAD)
		fail("C_GetFunctionList(NULL)", rv, CKR_ARGUMENTS_BAD);
}

static void *encrypt_once(void *unused)
{
	(void)unused;
	call(NUMBER_C_Encrypt);
	return NULL;
}

/* four: of many calls of C_Encrypt four are served at a time, not fewer and not more. */
static void test_four(void)
{
	enum { THREADS = 16, ROUNDS = 20 };
	pthread_t threads[THREADS];
	int i, round;

	*peer_meet = 4;
	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < THREADS; i++)
			pthread_create(&threads[i], NULL, encrypt_once, NULL);
		for (i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
	}
	if (*peer_most != 4)
		fail("calls at the same time", *peer_most, 4);
}

static void *random_once(void *unused)
{
	(void)unused;
	call(NUMBER_C_GenerateRandom);
	fail("C_GenerateRandom returned", 0, 0);
	return NULL;
}

/* blocked: with C_GenerateRandom delayed for an hour, it does not get to the peer, and the
 * calls of other threads do. */
static void test_blocked(void)
{
	struct timespec moment = {.tv_nsec = 50000000};
	pthread_t thread;
	int i;

	for (i = 0; i < 2; i++)
		pthread_create(&thread, NULL, random_once, NULL);
	nanosleep(&moment, NULL);
	for (i = 0; i < 1000; i++)
		call(NUMBER_C_Encrypt);
	if (peer_calls[NUMBER_C_Encrypt] != 1000)
		fail("calls of C_Encrypt", peer_calls[NUMBER_C_Encrypt], 1000);
	if (peer_calls[NUMBER_C_GenerateRandom] != 0)
		fail("calls of C_GenerateRandom", peer_calls[NUMBER_C_GenerateRandom], 0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} tests[] = {{"forward", test_forward}, {"itself", test_itself}, {"four", test_four}, {"blocked", test_blocked}};
	word_t (*get)(function_list_t **), rv;
	void *peer, *module;
	size_t i;

	if (argc != 4)
		return 2;
	peer = dlopen(argv[1], RTLD_NOW);
	peer_calls = symbol(peer, "peer_calls");
	peer_arguments = symbol(peer, "peer_arguments");
	peer_meet = symbol(peer, "peer_meet");
	peer_most = symbol(peer, "peer_most");
	module = dlopen(argv[2], RTLD_NOW);
	*(void **)&get = symbol(module, "C_GetFunctionList");
	if ((rv = get(&list)) != CKR_OK)
		fail("C_GetFunctionList", rv, CKR_OK);
	for (i = 0; i < sizeof tests / sizeof *tests; i++)
		if (strcmp(argv[3], tests[i].name) == 0) {
			tests[i].run();
			return 0;
		}
	return 2;
}
