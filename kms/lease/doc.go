// Package lease holds the decisions of the lease protocol: when a replica may serve
// ([Holder]), and when whoever made a change may say that it holds everywhere ([Wait]).
// It does no I/O, starts nothing and reads no clock; the code that does drives these
// machines, and so does the model in model_test.go (see below).
//
// # The promise
//
// Changes are numbered by the store's revision, in commit order. When a Wait for the
// change r is over, no operation passes its final check any more under a snapshot
// older than r, in any process. Results of replicas that acknowledged r are handed over
// already; of a replica whose lease expired, results that it had checked before may
// leave when it is resumed. The moment of a final check is its clock reading.
//
// # What the drivers must do
//
// An operation's final check goes in this order: enter the operation in the count of
// the current snapshot, and begin again if that is not current any more; evaluate
// authorisation and state under that snapshot; read the clock and ask MayServe; hand
// the result over; leave the count. A replica has acknowledged r when its snapshot
// is at r or later and the counts of all snapshots older than r are zero.
//
// Clocks are read on the safe side of each message: before a renewal is sent, after its
// confirmation has arrived; before the rows are asked for, and after. A transaction
// that was confirmed, or seen by anyone, survives a fail-over; what holds where that is
// not so stands below.
//
// A join or renewal is committed only in a store that comes from the state that the
// process has read ([Renewal]). When one is refused for that, the driver calls GiveUp.
//
// # Why it holds
//
// Let a change r be confirmed, and X be a lease, which one process holds from one join
// to the next lapse. The store's transactions have one order; each reading shows the
// result of a beginning of it.
//
// X is not in the first reading that shows r. If it was there before r, it has been
// removed: by its holder, which had stopped serving, or by someone who saw it expire. If
// its row comes after r, so does the first renewal, a transaction that begins when the
// join is confirmed and that reads the revision: at least r. X does not serve before it
// has acknowledged that. That it is acknowledged and not just applied matters: an
// operation of the process's previous lease may have evaluated an older snapshot, been
// stopped, and ask MayServe when X is valid.
//
// X is in it, and disappears: it was removed as above, or its holder joins anew, which it
// does only after a lapse.
//
// X is in it, and a reading shows Applied >= r. Nothing in that process is checked under
// an older snapshot then or later.
//
// X is in it, and its counter is the same in a reading answered at time a as in a
// confirmed one asked for at b, with b-a at least duration plus margin. The renewal of that
// counter was committed by a, so sent by a, and good until a+duration-margin by the
// holder's clock. A later renewal that the holder accepts was confirmed before that end
// by the holder's clock, so committed before b, which the reading at b would show,
// because what confirms transactions at b or later holds all that was confirmed before.
// So the lease has ended by b. What is committed later the holder refuses (ErrLapsed)
// and joins under another ID. The two margins allow for clocks of different rates; a
// machine whose clock stands still while its processes run, or that is paused without its
// clock being told, is outside of this. Neither does it cover someone who edits lease rows.
//
// A former primary that has been replaced may still answer readings. That is why a
// reading counts only if it shows r, why only a confirmed one can show that a lease
// expired, and why the revision that a joining replica must reach comes with a renewal,
// which commits, and not with a mere reading.
//
// # Why it ends
//
// A live lease is renewed only when the replica has acknowledged the revision that its
// previous renewal told of. A replica that cannot apply r, or has an operation that never
// ends, thus loses its lease instead of blocking r for ever. A replica that is stopped,
// killed or cut off from the store is waited for at most duration plus margin and the time
// of one reading after its last renewal was committed; one that lives and renews but does
// not acknowledge, at most twice the duration and the time of a reading. Whoever sees a
// lease expire may remove its row, so that the next change need not wait for it again.
//
// # Where the store loses changes
//
// A fail-over to a standby that lagged, or an older copy put in the store's place, takes
// back the last transactions. The store is then at a lower revision, or, when others have
// made changes since, at the same or a higher one with another content. Of a change that is
// lost nothing is promised, and a call that waits for one may return. Let a store lose
// transactions once, and nobody meet its former state any more. Then:
//
//   - A replica that has applied a lost change joins and renews no more, so it serves at
//     most until its lease ends, and its row never says that it has acknowledged a change
//     that the store made since: the promise holds of those too.
//   - A replica to which a lower revision is confirmed than one that it knows, by a renewal
//     or by Seen, never serves again.
//   - A replica that has given up its lease serves only after it has joined again.
//   - The promise holds of every change that the store still has, or makes later, with one
//     exception: of a lease whose last renewal, or join, was lost, the store knows nothing.
//     Who waits may see it expire too early, or not at all. It serves at most until it
//     ends; if it is renewed at the last moment, until that ends: less than two leases
//     after the loss. Nobody can be asked, so there is no remedy but to lose nothing.
//
// Numbers of renewals are drawn by the holder and not counted on from the row, so that a
// renewal after the loss is not taken for the one that was lost.
//
// A former primary that goes on answering readings after such a loss is a second store of
// another history, and not covered.
//
// # What the model covers
//
// The tests explore the product of replicas, a store, callers that wait, and a clock,
// breadth first, with the very Holder and Wait that run: every interleaving of joining,
// renewing, lapsing, stopped processes, lost answers, transactions that read long before
// they commit or commit late, fail-over to a synchronous standby, leaving, removed rows,
// clocks of different rates, leases given up at any moment, examinations (the revision
// read by a transaction that writes, for Seen) whenever the keeper of the lease is free, and
// a store that falls back to any earlier state of itself and goes on from there, against one
// or two changes, with one to three replicas. By default that is
// 20 scenarios, 9 of them completely: 11261079 states and 53083188 transitions.
// The others go as deep as time allows; the flag -lease.depth takes them further. The
// clock is discrete, leases are 2, 3 or 5 margins long, the store fails over or falls back
// once, and a replica has one operation at a time and is not started again.
// The bounds of a wait are explored completely, with losses too: a caller who reads once a
// tick returns after at most three leases and a tick where a store falls back meanwhile.
//
// What the driver does beside is not in the model, because it can only refuse more: it
// refuses from the first reading of another history on, before its lease is given up. Nor
// is how a store finds that it does not come from a state; that is tested where it is done.
//
// The protocol got wrong on purpose is found to be wrong, by the sequence of steps that
// shows it, in each of 27 mutations.
package lease
