// Package loadgen makes requests and measures them.
//
// [Closed] keeps a fixed number of callers busy, each with one request at a time: it
// finds the throughput. [Open] makes requests at a set rate, whatever becomes of those
// before: it finds the latency under a load. Its latencies count from the moment at
// which a request was meant to start, not from when the generator came to it, so that a
// service that stalls cannot hide the requests that had to wait meanwhile (coordinated
// omission; G. Tene, "How NOT to Measure Latency").
//
// A run is bounded in time and in count, and ends early with its context. The package
// knows nothing of what the requests are. Runs may be concurrent.
package loadgen
