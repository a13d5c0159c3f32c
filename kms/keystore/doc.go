// Package keystore keeps the metadata of keys durably: it implements [kms.Store] on a
// SQL database, SQLite for one process or PostgreSQL for replicas. What depends on the
// database stands behind the dialect type, and all other SQL is common ground of both.
//
// # Opening
//
// The seals of the rows are made under a key derived from an HSM object, and the UID of
// that object stands in the store. So there are two stages: [Open] gives a [Database],
// which tells the UID, and [Database.Store] gives the [Store] once the object exists.
// [OpenStore] is both in one. A Store without a [Sealer] cannot be had.
//
// One process has a SQLite store open at a time: Open takes an exclusive lock on
// PATH.lock (flock) and holds it until Close. The lock file stays behind; it is the
// lock that counts, not the file. A PostgreSQL store may be open in many processes; one of
// them at a time makes its tables ([Migrate]) and its seal key ([Database.LockSealKey]).
//
// Open makes the tables in an empty database. It refuses a store with another schema than
// its own; [Migrate] brings an older one up.
//
// # Durability
//
// SQLite: WAL journal with synchronous=FULL; an Update that returned nil has been synced to
// the disk. Open checks that both settings took effect and refuses to run without them.
//
// PostgreSQL: synchronous_commit=on in each session, which refuses to be one without. An
// Update that returned nil is on the disk of the primary and of its synchronous standby, if
// it has one. One that did not may come to light later, but never while a fail-over could
// still undo it. Only a server that takes writes is used, for reading too. What a server
// that lost its power or its network makes of a connection is an error, and the next
// call tries the hosts of the DSN anew.
//
// # What seals show
//
// Every row of the metadata, of the encryption counters, and of the record of what was
// removed carries a seal (see [Sealer] for the bytes). Each change also seals the head: the
// revision and a digest of the set of all rows (see digest.go). So what was not written
// by a holder of the seal key is refused with [kms.ErrTampered]: a row that was edited,
// made under another seal key, moved, removed, or put back to an older state of itself.
// What could not have come about by changes is refused by its own name: a version without
// its key, a key without its namespace, its primary version or its first one, a gap in
// the numbers of a key's versions, a UID that stands twice, a STRICT version without its
// counter, a row of a later revision than the store's.
//
// A Store keeps the set of the rows' summands in memory, about 150 bytes a row. By it a
// change, and the news of a change that another process has made, cost the same in a large
// store as in a small one, and are checked as a whole load is: what has changed must lead
// from the set that was seen to the set that the new head seals.
//
// The whole store put back to an older state of itself is sound. A Store that has seen a
// later one says [kms.ErrStoreWentBack]; a process that starts needs a head that was noted
// outside of the database, as a [FileAnchor] does. Leases and usage statistics are not
// sealed.
package keystore
