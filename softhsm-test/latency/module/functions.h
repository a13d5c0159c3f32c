/*
 * The functions of CK_FUNCTION_LIST of PKCS#11 v2.40 (OASIS, pkcs11f.h), in its order,
 * each with the number of its parameters. A parameter is a CK_ULONG, a handle, a pointer
 * or, once, a CK_BBOOL: on every Unix one machine word in a call.
 */
#ifndef KEYHOLT_LATENCY_FUNCTIONS_H
#define KEYHOLT_LATENCY_FUNCTIONS_H

#define FUNCTIONS(X) \
	X(C_Initialize, 1) \
	X(C_Finalize, 1) \
	X(C_GetInfo, 1) \
	X(C_GetFunctionList, 1) \
	X(C_GetSlotList, 3) \
	X(C_GetSlotInfo, 2) \
	X(C_GetTokenInfo, 2) \
	X(C_GetMechanismList, 3) \
	X(C_GetMechanismInfo, 3) \
	X(C_InitToken, 4) \
	X(C_InitPIN, 3) \
	X(C_SetPIN, 5) \
	X(C_OpenSession, 5) \
	X(C_CloseSession, 1) \
	X(C_CloseAllSessions, 1) \
	X(C_GetSessionInfo, 2) \
	X(C_GetOperationState, 3) \
	X(C_SetOperationState, 5) \
	X(C_Login, 4) \
	X(C_Logout, 1) \
	X(C_CreateObject, 4) \
	X(C_CopyObject, 5) \
	X(C_DestroyObject, 2) \
	X(C_GetObjectSize, 3) \
	X(C_GetAttributeValue, 4) \
	X(C_SetAttributeValue, 4) \
	X(C_FindObjectsInit, 3) \
	X(C_FindObjects, 4) \
	X(C_FindObjectsFinal, 1) \
	X(C_EncryptInit, 3) \
	X(C_Encrypt, 5) \
	X(C_EncryptUpdate, 5) \
	X(C_EncryptFinal, 3) \
	X(C_DecryptInit, 3) \
	X(C_Decrypt, 5) \
	X(C_DecryptUpdate, 5) \
	X(C_DecryptFinal, 3) \
	X(C_DigestInit, 2) \
	X(C_Digest, 5) \
	X(C_DigestUpdate, 3) \
	X(C_DigestKey, 2) \
	X(C_DigestFinal, 3) \
	X(C_SignInit, 3) \
	X(C_Sign, 5) \
	X(C_SignUpdate, 3) \
	X(C_SignFinal, 3) \
	X(C_SignRecoverInit, 3) \
	X(C_SignRecover, 5) \
	X(C_VerifyInit, 3) \
	X(C_Verify, 5) \
	X(C_VerifyUpdate, 3) \
	X(C_VerifyFinal, 3) \
	X(C_VerifyRecoverInit, 3) \
	X(C_VerifyRecover, 5) \
	X(C_DigestEncryptUpdate, 5) \
	X(C_DecryptDigestUpdate, 5) \
	X(C_SignEncryptUpdate, 5) \
	X(C_DecryptVerifyUpdate, 5) \
	X(C_GenerateKey, 5) \
	X(C_GenerateKeyPair, 8) \
	X(C_WrapKey, 6) \
	X(C_UnwrapKey, 8) \
	X(C_DeriveKey, 6) \
	X(C_SeedRandom, 3) \
	X(C_GenerateRandom, 3) \
	X(C_GetFunctionStatus, 1) \
	X(C_CancelFunction, 1) \
	X(C_WaitForSlotEvent, 3)

/* CK_ULONG, CK_RV, every handle; as wide as a pointer. */
typedef unsigned long word_t;
_Static_assert(sizeof(word_t) == sizeof(void *), "a parameter is one machine word");

/* The parameters and the arguments of a function that has n of them. */
#define PARAMETERS_1 word_t a
#define PARAMETERS_2 PARAMETERS_1, word_t b
#define PARAMETERS_3 PARAMETERS_2, word_t c
#define PARAMETERS_4 PARAMETERS_3, word_t d
#define PARAMETERS_5 PARAMETERS_4, word_t e
#define PARAMETERS_6 PARAMETERS_5, word_t f
#define PARAMETERS_8 PARAMETERS_6, word_t g, word_t h
#define ARGUMENTS_1 a
#define ARGUMENTS_2 ARGUMENTS_1, b
#define ARGUMENTS_3 ARGUMENTS_2, c
#define ARGUMENTS_4 ARGUMENTS_3, d
#define ARGUMENTS_5 ARGUMENTS_4, e
#define ARGUMENTS_6 ARGUMENTS_5, f
#define ARGUMENTS_8 ARGUMENTS_6, g, h

/* The number of each function: its place in the list. */
#define NUMBER(name, n) NUMBER_##name,
enum { FUNCTIONS(NUMBER) FUNCTION_COUNT };
#undef NUMBER

typedef void (*function_t)(void);

/* CK_FUNCTION_LIST. A module of a later version of the standard has it as well. */
typedef struct {
	struct {
		unsigned char major, minor;
	} version;
	function_t function[FUNCTION_COUNT];
} function_list_t;

_Static_assert(FUNCTION_COUNT == 68, "CK_FUNCTION_LIST has 68 functions");
_Static_assert(sizeof(function_list_t) == 69 * sizeof(void *), "a version, then the functions");

#define CKR_OK 0x00UL
#define CKR_GENERAL_ERROR 0x05UL
#define CKR_ARGUMENTS_BAD 0x07UL

#endif
