// Package keystore keeps the metadata of keys durably: it implements [kms.Store] on a
// SQL database, SQLite or PostgreSQL. What depends on the database stands behind the
// dialect type; all other SQL is common ground.
//
// # Opening
//
// The seals of the rows are made under a key derived from an HSM object, and the UID of
// that object stands in the store. So there are two stages: [Open] gives a [Database],
// which tells the UID, and [Database.Store] gives the [Store] once the object exists
// and a [Sealer] has been made from it. A Store without a Sealer cannot be had.
//
// One process has a SQLite store open at a time: Open takes an exclusive lock on
// PATH.lock (flock) and holds it until Close. The lock file stays behind; it is the
// lock that counts, not the file. A PostgreSQL store may be open in many processes; one of
// them at a time makes its tables ([Migrate]) and its seal key ([Database.LockSealKey]).
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
// # What seals show, and what they do not
//
// Every row of namespaces, keys, versions and reservations carries a seal (see
// [Sealer] for the bytes). Load refuses, with [kms.ErrTampered], a row that was edited,
// that was made under another seal key, or whose seal stands on another row. It
// also refuses what could not have come about by commits: a version without its key, a
// key without its namespace, its primary version or its first one, a gap in the numbers
// of a key's versions, a UID that stands twice, a STRICT version without its counter, a
// row of a later revision than the store's.
//
// A seal says nothing of the rest of the table. An old state of a row that is put back
// together with its own revision and seal passes; so does a row that was deleted,
// if none that is left needs it. Both need a digest over the whole set of rows, which
// the store does not have yet.
package keystore
