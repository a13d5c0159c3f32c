// Package pgtest gives tests PostgreSQL clusters of their own: made in a temporary
// directory, on a free port of the loopback interface, and gone when the tests are done.
// A cluster that the machine runs already is never touched.
//
// [NewDatabase] is for tests that need a database: an empty one in a cluster that all
// tests of the process share. [Start] is for tests that do something to the server: stop
// it, kill it, or fail over to a standby ([StartStandby]). Both may be called by tests
// that run in parallel; the methods of one cluster that start and stop it may not.
//
// # As in production, as far as tests can tell
//
// Roles have passwords, checked by SCRAM-SHA-256, and a database belongs to a role that
// is no superuser. Text sorts by the rules of a language and not by bytes, where the
// server was built with ICU. What is committed is synced to the disk, except in clusters
// started with [Fast] and in the one that is shared.
//
// # Who stops what
//
// A cluster is stopped, and its directory removed, when the test that started it has
// ended. The shared one stays for the next test, and is stopped when the process ends.
// That, and what is left when a test process dies (a panic, a timeout, SIGKILL), is the
// business of a guard: a shell process of a few lines that holds the reading end of a
// pipe, is told which servers run, and when the pipe closes stops those and removes the
// directory of this process. No server outlives the tests, on Linux or elsewhere.
//
// As root, everything of PostgreSQL runs as the user postgres, or nobody without one,
// because the server refuses to run as root.
package pgtest
