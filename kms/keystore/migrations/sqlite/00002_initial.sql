-- The tables are STRICT: a column holds values of its type or NULL, nothing else.
-- Times are microseconds since 1970-01-01 UTC. UIDs are 32 lower-case hexadecimal digits.
-- revision, seal and seal_key_id of each row: see sealing.go; the head: digest.go.
--
-- Schema 1 was that of development versions. No release had it, so no way leads from it
-- to this one.

-- +goose Up

CREATE TABLE meta (
    id            INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    store_id      TEXT    NOT NULL,
    seal_key_made INTEGER NOT NULL CHECK (seal_key_made IN (0, 1)),
    confirmations INTEGER NOT NULL -- counted up by whoever must know that the database still accepts commits
) STRICT;

CREATE TABLE head (
    id          INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    revision    INTEGER NOT NULL,
    counts      TEXT    NOT NULL, -- how many rows of each type there are
    seal        BLOB    NOT NULL, -- empty at revision 0
    seal_key_id TEXT    NOT NULL  -- UID of the token object that all seals of the store are made with
) STRICT;

CREATE TABLE origin (
    id           INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch        INTEGER NOT NULL,
    changed_time INTEGER NOT NULL,
    principal    TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    revision     INTEGER NOT NULL,
    seal         BLOB    NOT NULL,
    seal_key_id  TEXT    NOT NULL
) STRICT;

CREATE TABLE namespaces (
    namespace_id TEXT    NOT NULL PRIMARY KEY,
    create_time  INTEGER NOT NULL,
    created_by   TEXT    NOT NULL,
    revision     INTEGER NOT NULL,
    seal         BLOB    NOT NULL,
    seal_key_id  TEXT    NOT NULL
) STRICT;

CREATE TABLE keys (
    namespace_id       TEXT    NOT NULL REFERENCES namespaces (namespace_id),
    key_id             TEXT    NOT NULL,
    purpose            TEXT    NOT NULL,
    algorithm          TEXT    NOT NULL,
    profile            TEXT    NOT NULL,
    labels             TEXT    NOT NULL, -- a JSON object of strings
    rotation_period_ns INTEGER NOT NULL, -- 0: by hand only
    primary_version    INTEGER NOT NULL, -- 0: none yet
    create_time        INTEGER NOT NULL,
    created_by         TEXT    NOT NULL,
    revision           INTEGER NOT NULL,
    seal               BLOB    NOT NULL,
    seal_key_id        TEXT    NOT NULL,
    PRIMARY KEY (namespace_id, key_id)
) STRICT;

CREATE TABLE versions (
    namespace_id    TEXT    NOT NULL,
    key_id          TEXT    NOT NULL,
    number          INTEGER NOT NULL,
    uid             TEXT    NOT NULL UNIQUE, -- CKA_ID of the token object
    state           TEXT    NOT NULL,
    create_time     INTEGER NOT NULL,
    state_time      INTEGER, -- NULL: never changed
    state_principal TEXT    NOT NULL,
    state_reason    TEXT    NOT NULL,
    destroy_time    INTEGER, -- NULL: neither scheduled nor destroyed
    restore_to      TEXT,    -- a state; NULL: not scheduled for destruction
    epoch           INTEGER NOT NULL,
    first_use       INTEGER, -- NULL: never used
    check_value     BLOB    NOT NULL,
    attributes      TEXT    NOT NULL, -- a JSON object: what the token reported of its object; empty: none yet
    imported        INTEGER NOT NULL, -- 0 or 1
    request_id      TEXT    NOT NULL,
    request_digest  BLOB    NOT NULL,
    revision        INTEGER NOT NULL,
    seal            BLOB    NOT NULL,
    seal_key_id     TEXT    NOT NULL,
    PRIMARY KEY (namespace_id, key_id, number),
    FOREIGN KEY (namespace_id, key_id) REFERENCES keys (namespace_id, key_id)
) STRICT;

-- How many encryptions of a STRICT version have been taken off its limit.
CREATE TABLE reservations (
    uid         TEXT    NOT NULL PRIMARY KEY REFERENCES versions (uid),
    taken       INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    seal        BLOB    NOT NULL,
    seal_key_id TEXT    NOT NULL
) STRICT;

-- Token objects without a version that are scheduled for destruction.
CREATE TABLE orphans (
    uid          TEXT    NOT NULL PRIMARY KEY,
    label        TEXT    NOT NULL,
    destroy_time INTEGER NOT NULL,
    principal    TEXT    NOT NULL,
    revision     INTEGER NOT NULL,
    seal         BLOB    NOT NULL,
    seal_key_id  TEXT    NOT NULL
) STRICT;

-- RSA keys under which callers wrap the keys that they bring in.
CREATE TABLE import_jobs (
    namespace_id   TEXT    NOT NULL REFERENCES namespaces (namespace_id),
    job_id         TEXT    NOT NULL,
    uid            TEXT    NOT NULL UNIQUE, -- CKA_ID of the wrapping key
    method         TEXT    NOT NULL,
    state          TEXT    NOT NULL,
    create_time    INTEGER NOT NULL,
    created_by     TEXT    NOT NULL,
    expire_time    INTEGER NOT NULL,
    public_key     BLOB    NOT NULL, -- empty: none yet
    attributes     TEXT    NOT NULL, -- as of versions
    request_id     TEXT    NOT NULL,
    request_digest BLOB    NOT NULL,
    revision       INTEGER NOT NULL,
    seal           BLOB    NOT NULL,
    seal_key_id    TEXT    NOT NULL,
    PRIMARY KEY (namespace_id, job_id)
) STRICT;

-- What was removed from the other sealed tables, and at which revision last. A name can
-- be in use again.
CREATE TABLE removals (
    kind        TEXT    NOT NULL, -- the row type, as in the seals
    name        TEXT    NOT NULL, -- the resource name, or the UID
    revision    INTEGER NOT NULL,
    seal        BLOB    NOT NULL,
    seal_key_id TEXT    NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

-- What has changed since a revision.
CREATE INDEX namespaces_revision ON namespaces (revision);
CREATE INDEX keys_revision ON keys (revision);
CREATE INDEX versions_revision ON versions (revision);
CREATE INDEX reservations_revision ON reservations (revision);
CREATE INDEX orphans_revision ON orphans (revision);
CREATE INDEX import_jobs_revision ON import_jobs (revision);
CREATE INDEX removals_revision ON removals (revision);

-- Neither of the following is sealed.

CREATE TABLE leases (
    lease_id    TEXT    NOT NULL PRIMARY KEY,
    counter     INTEGER NOT NULL,
    applied     INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    replica     TEXT    NOT NULL,
    release     TEXT    NOT NULL,
    start_time  INTEGER NOT NULL
) STRICT;

CREATE TABLE usage (
    uid       TEXT    NOT NULL,
    action    TEXT    NOT NULL,
    count     INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    PRIMARY KEY (uid, action)
) STRICT;
