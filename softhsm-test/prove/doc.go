// Package prove holds proofs that run against servers as they are in production: four
// kmsd processes over TLS, with their real audit files, on one PostgreSQL and one SoftHSM2
// token, under load, while replicas are stopped, killed and cut off from the store.
//
// Each proof is a test. As part of a plain test run it is short, and asserts only what
// must hold on any machine: counts of what must never happen. The make targets
// prove-revocation, prove-rotation, prove-failover, prove-crash and prove-scale run the
// long form, which asserts times as well:
//
//	go test ./softhsm-test/prove -run '^TestRevocation$' -prove.n 300 -prove.bounds
//
// Crashes and tampering are shown with one server, on SQLite and on PostgreSQL in turn: it
// is killed in the middle of changes, or stopped, its rows and token objects changed by
// somebody else, and started again. What it must then hold, or refuse and name, is told by
// the test and not asked of the program. The proof of scale runs the service in the
// process of the test, on a token that only lists the many objects.
//
// # Clocks
//
// What a client did after a call had returned, and what a server decided after that, are
// compared by one clock: CLOCK_BOOTTIME, which is the same in all processes of a machine.
package prove
