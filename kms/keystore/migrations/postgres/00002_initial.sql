-- The tables of SQLite's schema 2 with the same columns in the same order, so that the
-- seals of a row are the same bytes. They are in the first schema of the search path.
-- Times are microseconds since 1970-01-01 UTC. UIDs are 32 lower-case hexadecimal digits.
-- revision, seal and seal_key_id of each row: see sealing.go; the head: digest.go.
--
-- Rows that are updated again and again have room on their page for the next version
-- (fillfactor), which then needs no new index entry.

-- +goose Up

CREATE TABLE meta (
    id            bigint NOT NULL PRIMARY KEY CHECK (id = 1),
    store_id      text   NOT NULL,
    seal_key_made bigint NOT NULL CHECK (seal_key_made IN (0, 1)),
    confirmations bigint NOT NULL -- counted up by whoever must know that the database still accepts commits
) WITH (fillfactor = 50);

-- By this comment a store is told from another program's tables of the same names.
COMMENT ON TABLE meta IS 'Keyholt metadata';

CREATE TABLE head (
    id          bigint NOT NULL PRIMARY KEY CHECK (id = 1),
    revision    bigint NOT NULL,
    counts      text   NOT NULL, -- how many rows of each type there are
    seal        bytea  NOT NULL, -- empty at revision 0
    seal_key_id text   NOT NULL  -- UID of the token object that all seals of the store are made with
) WITH (fillfactor = 50);

CREATE TABLE origin (
    id           bigint NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch        bigint NOT NULL,
    changed_time bigint NOT NULL,
    principal    text   NOT NULL,
    reason       text   NOT NULL,
    revision     bigint NOT NULL,
    seal         bytea  NOT NULL,
    seal_key_id  text   NOT NULL
);

CREATE TABLE namespaces (
    namespace_id text   NOT NULL PRIMARY KEY,
    create_time  bigint NOT NULL,
    created_by   text   NOT NULL,
    revision     bigint NOT NULL,
    seal         bytea  NOT NULL,
    seal_key_id  text   NOT NULL
);

CREATE TABLE keys (
    namespace_id       text   NOT NULL REFERENCES namespaces (namespace_id),
    key_id             text   NOT NULL,
    purpose            text   NOT NULL,
    algorithm          text   NOT NULL,
    profile            text   NOT NULL,
    labels             text   NOT NULL, -- a JSON object of strings
    rotation_period_ns bigint NOT NULL, -- 0: by hand only
    primary_version    bigint NOT NULL, -- 0: none yet
    create_time        bigint NOT NULL,
    created_by         text   NOT NULL,
    revision           bigint NOT NULL,
    seal               bytea  NOT NULL,
    seal_key_id        text   NOT NULL,
    PRIMARY KEY (namespace_id, key_id)
);

CREATE TABLE versions (
    namespace_id    text   NOT NULL,
    key_id          text   NOT NULL,
    number          bigint NOT NULL,
    uid             text   NOT NULL UNIQUE, -- CKA_ID of the token object
    state           text   NOT NULL,
    create_time     bigint NOT NULL,
    state_time      bigint, -- NULL: never changed
    state_principal text   NOT NULL,
    state_reason    text   NOT NULL,
    destroy_time    bigint, -- NULL: neither scheduled nor destroyed
    restore_to      text,    -- a state; NULL: not scheduled for destruction
    epoch           bigint NOT NULL,
    first_use       bigint, -- NULL: never used
    check_value     bytea  NOT NULL,
    attributes      text   NOT NULL, -- a JSON object: what the token reported of its object; empty: none yet
    imported        bigint NOT NULL, -- 0 or 1
    request_id      text   NOT NULL,
    request_digest  bytea  NOT NULL,
    revision        bigint NOT NULL,
    seal            bytea  NOT NULL,
    seal_key_id     text   NOT NULL,
    PRIMARY KEY (namespace_id, key_id, number),
    FOREIGN KEY (namespace_id, key_id) REFERENCES keys (namespace_id, key_id)
);

-- How many encryptions of a STRICT version have been taken off its limit.
CREATE TABLE reservations (
    uid         text   NOT NULL PRIMARY KEY REFERENCES versions (uid),
    taken       bigint NOT NULL,
    revision    bigint NOT NULL,
    seal        bytea  NOT NULL,
    seal_key_id text   NOT NULL
) WITH (fillfactor = 50);

-- Token objects without a version that are scheduled for destruction.
CREATE TABLE orphans (
    uid          text   NOT NULL PRIMARY KEY,
    label        text   NOT NULL,
    destroy_time bigint NOT NULL,
    principal    text   NOT NULL,
    revision     bigint NOT NULL,
    seal         bytea  NOT NULL,
    seal_key_id  text   NOT NULL
);

-- RSA keys under which callers wrap the keys that they bring in.
CREATE TABLE import_jobs (
    namespace_id   text   NOT NULL REFERENCES namespaces (namespace_id),
    job_id         text   NOT NULL,
    uid            text   NOT NULL UNIQUE, -- CKA_ID of the wrapping key
    method         text   NOT NULL,
    state          text   NOT NULL,
    create_time    bigint NOT NULL,
    created_by     text   NOT NULL,
    expire_time    bigint NOT NULL,
    public_key     bytea  NOT NULL, -- empty: none yet
    attributes     text   NOT NULL, -- as of versions
    request_id     text   NOT NULL,
    request_digest bytea  NOT NULL,
    revision       bigint NOT NULL,
    seal           bytea  NOT NULL,
    seal_key_id    text   NOT NULL,
    PRIMARY KEY (namespace_id, job_id)
);

-- What was removed from the other sealed tables, and at which revision last. A name can
-- be in use again.
CREATE TABLE removals (
    kind        text   NOT NULL, -- the row type, as in the seals
    name        text   NOT NULL, -- the resource name, or the UID
    revision    bigint NOT NULL,
    seal        bytea  NOT NULL,
    seal_key_id text   NOT NULL,
    PRIMARY KEY (kind, name)
);

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
    lease_id    text   NOT NULL PRIMARY KEY,
    counter     bigint NOT NULL,
    applied     bigint NOT NULL,
    duration_ns bigint NOT NULL,
    replica     text   NOT NULL,
    release     text   NOT NULL,
    start_time  bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE usage (
    uid       text   NOT NULL,
    action    text   NOT NULL,
    count     bigint NOT NULL,
    last_used bigint NOT NULL,
    PRIMARY KEY (uid, action)
) WITH (fillfactor = 50);
