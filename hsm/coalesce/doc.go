// Package coalesce merges concurrent block requests for one key into one token call.
//
// A [Coalescer] stands in front of an [hsm.BlockCipher] and is one itself; [Token]
// puts it in front of a whole [hsm.Token]. Batching is natural, without a timer that
// would make a lone request wait:
//
//   - A request for an idle key goes to the token at once, on the caller's own
//     goroutine, with the caller's own buffers. This costs about 0.2 µs and allocates
//     nothing.
//   - While a call for a key is in flight, further requests for it queue up, and the
//     queue becomes the next call, up to Config.MaxBytes. A request that is longer
//     goes alone and whole: the token splits it.
//   - Where requests for a key have met lately, the first of the next ones lets other
//     goroutines that are ready to run go first, once, so that they can join it.
//   - On a fast token one call at a time per key is in flight. On a slow one (a call
//     takes Config.SlowCall or more) it is up to Config.Dispatchers, started some
//     time apart: else the callers of one key fall into step, and calls of one
//     request and of all others alternate.
//   - At most Config.MaxCalls calls are in flight in all. When that is the bottleneck,
//     the key whose oldest request came first is next, so that a busy key cannot
//     starve another.
//
// Callers do not feel each other. A malformed request is refused before it queues.
// One whose context ended, or whose admission is refused, is dropped before it
// reaches the token. A caller that gives up while its merged call is in flight
// returns at once, and its buffers are not touched afterwards. Merged calls run on
// goroutines of the Coalescer, never on a caller's. What the token refuses as
// malformed is tried again request by request.
//
// Merged buffers hold derived keys; they are wiped after each call.
//
// All methods may be called concurrently.
package coalesce
