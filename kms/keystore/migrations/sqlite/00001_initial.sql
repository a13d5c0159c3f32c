-- The tables are STRICT: a column holds values of its type or NULL, nothing else.
-- Times are microseconds since 1970-01-01 UTC. UIDs are 32 lower-case hexadecimal digits.
-- revision, seal and seal_key_id of each row: see sealing.go.

-- +goose Up

CREATE TABLE meta (
    id            INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    store_id      TEXT    NOT NULL,
    seal_key_uid  TEXT    NOT NULL,
    seal_key_made INTEGER NOT NULL CHECK (seal_key_made IN (0, 1))
) STRICT;

CREATE TABLE revision (
    id    INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    value INTEGER NOT NULL
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
    first_use       INTEGER, -- NULL: never used
    check_value     BLOB    NOT NULL,
    request_id      TEXT    NOT NULL,
    request_digest  BLOB    NOT NULL,
    revision        INTEGER NOT NULL,
    seal            BLOB    NOT NULL,
    seal_key_id     TEXT    NOT NULL,
    PRIMARY KEY (namespace_id, key_id, number),
    FOREIGN KEY (namespace_id, key_id) REFERENCES keys (namespace_id, key_id)
) STRICT;

-- How many encryptions of a STRICT version have been taken off its limit. Its revision
-- counts the changes of the row itself: a reservation is no change of the metadata.
CREATE TABLE reservations (
    uid         TEXT    NOT NULL PRIMARY KEY REFERENCES versions (uid),
    taken       INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    seal        BLOB    NOT NULL,
    seal_key_id TEXT    NOT NULL
) STRICT;
