// Package audit keeps the record of what was done: a [kms.Auditor] that appends JSON
// lines (https://jsonlines.org) to a file.
//
// # Records
//
// A record is one line, a JSON object (RFC 8259) in UTF-8. Members that would be empty
// are left out, except those marked *.
//
//	id         * string  run and number of the record, "5d1c0b7a9e3f2468-17"; see below
//	time       * string  RFC 3339 in UTC with microseconds
//	principal  * string  who asked
//	method     * string  how that was established: "unix", "tls", "system" or "none"
//	address      string  network address of the peer
//	action     * string  what was asked for, as "Decrypt"
//	namespace    string  resource name of the namespace
//	resource     string  resource name of what a control operation acted on
//	import_job   string  resource name of the import job that a key version was to be imported by
//	reason       string  the reason that the caller gave
//	context      object  the encryption context of the request
//	revision     number  revision of the metadata under which the final check was made
//	checked_ns   number  reading of CLOCK_BOOTTIME, in nanoseconds, on which the final check relied
//	spread       object  how a change came to be known:
//	  revision   * number  the revision of the change
//	  acknowledged array   names of the replicas that had applied it when the call returned
//	  expired      array   names of the replicas that held no lease by then
//	  took_ms    * number  how long that took
//	outcome    * string  "OK", or the reason constant of the error that refused the whole request
//	items        array   what became of the items of the request, in order:
//	  count    * number    so many consecutive items are alike
//	  version    string    key version that was used, or would have been
//	  target     string    key version that made the new ciphertext
//	  context    object    the items' own encryption context; left out if it is the request's
//	  outcome  * string    "OK", or a reason constant; never "OK" if the whole request was refused
//	  valid      boolean   whether the signature or MAC was good, of items that asked for that
//
// A record never holds plaintext, what was signed or authenticated, key material or
// additional authenticated data: an event has none.
//
// A run is one opening of the log. Its numbers are 1, 2, 3, ... in the order of the
// lines and go on over a change of files; so a line that is missing in the middle shows. (Who
// can write the file can renumber the lines: the log is a record, not yet a proof.)
//
// # What a returned Record promises
//
// The record of a change of metadata (kms.Action.Changes) has been synced to the disk. Any
// other has been written to the file, and is synced at once or within an interval
// of at most a second, as [Sync] says; while a sync takes longer than that, no record that
// comes is taken as kept before the next has succeeded. Records that arrive together share a
// write and a sync.
//
// An error promises nothing: the record may or may not be in the log, and the request
// must fail. Part of a line is never left before the next record.
//
// A file that is deleted under the log takes its records with it. The next record begins
// a new one, or fails.
//
// # A torn line
//
// A crash of the machine can leave part of a line at the end of the file. The next
// opening moves it, as it is, to the end of the file PATH.torn and logs that.
package audit
