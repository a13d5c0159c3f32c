/*
 * A module for tests of one that stands before it. Its functions remember how they were
 * called, and return 0x1000 and their number in the list. C_Encrypt returns only when
 * peer_meet calls of it are there at the same time.
 */
#include <pthread.h>

#include "../module/functions.h"

word_t peer_calls[FUNCTION_COUNT];
word_t peer_arguments[FUNCTION_COUNT][8];
long peer_meet = 1;
long peer_most; /* calls of C_Encrypt at the same time */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t met = PTHREAD_COND_INITIALIZER;
static long present, waiting, meetings;

static void meet(void)
{
	long meeting;

	pthread_mutex_lock(&lock);
	if (++present > peer_most)
		peer_most = present;
	meeting = meetings;
	if (++waiting == peer_meet) {
		waiting = 0;
		meetings++;
		pthread_cond_broadcast(&met);
	}
	while (meeting == meetings)
		pthread_cond_wait(&met, &lock);
	present--;
	pthread_mutex_unlock(&lock);
}

static word_t called(int number, const word_t *arguments, int n)
{
	int i;

	pthread_mutex_lock(&lock);
	peer_calls[number]++;
	for (i = 0; i < n; i++)
		peer_arguments[number][i] = arguments[i];
	pthread_mutex_unlock(&lock);
	if (number == NUMBER_C_Encrypt)
		meet();
	return 0x1000 + number;
}

#define PEER(name, n) \
	static word_t peer_##name(PARAMETERS_##n) \
	{ \
		const word_t arguments[] = {ARGUMENTS_##n}; \
		return called(NUMBER_##name, arguments, n); \
	}
FUNCTIONS(PEER)

#define ENTRY(name, n) (function_t)peer_##name,
static function_list_t list = {{2, 40}, {FUNCTIONS(ENTRY)}};

word_t C_GetFunctionList(function_list_t **out)
{
	*out = &list;
	return CKR_OK;
}
