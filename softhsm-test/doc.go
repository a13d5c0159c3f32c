// Package softhsmtest gives each test a SoftHSM2 token of its own, in a directory
// that goes when the tests are done, and holds the integration tests that run
// against it.
//
// SoftHSM2 reads its configuration file (SOFTHSM2_CONF) when it is initialised, once
// for the whole process. So all tests of a process share one configuration and one
// directory of tokens, and what each test has to itself is a token: a random label,
// a serial number, PINs. Tests that use different tokens may run in parallel.
//
// The package sets SOFTHSM2_CONF in the environment of the test process.
package softhsmtest
