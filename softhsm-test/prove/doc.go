// Package prove holds proofs that run against servers as they are in production: four
// kmsd processes over TLS, with their real audit files, on one PostgreSQL and one SoftHSM2
// token, under load, while replicas are stopped, killed and cut off from the store.
//
// Each proof is a test. As part of a plain test run it is short, and asserts only what
// must hold on any machine: counts of what must never happen. The make targets
// prove-revocation, prove-rotation and prove-failover run the long form, which asserts
// times as well:
//
//	go test ./softhsm-test/prove -run '^TestRevocation$' -prove.n 300 -prove.bounds
//
// # Clocks
//
// What a client did after a call had returned, and what a server decided after that, are
// compared by one clock: CLOCK_BOOTTIME, which is the same in all processes of a machine.
package prove
