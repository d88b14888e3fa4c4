CREATE TABLE progress (next INTEGER NOT NULL);
INSERT INTO progress VALUES (0);

-- Times are microseconds since 1970; entries are indexes in the ledger.
CREATE TABLE sessions (
    entry          INTEGER PRIMARY KEY,
    id             TEXT NOT NULL UNIQUE,
    caller         TEXT NOT NULL,
    issuer         TEXT NOT NULL,
    subject        TEXT NOT NULL,
    kind           TEXT NOT NULL,
    groups         TEXT,
    behalf         TEXT NOT NULL,
    behalf_issuer  TEXT NOT NULL,
    behalf_subject TEXT NOT NULL,
    connection     TEXT NOT NULL,
    protocol       TEXT NOT NULL,
    client         TEXT NOT NULL,
    started        INTEGER NOT NULL,
    ended          INTEGER,
    state          TEXT NOT NULL,
    reason         TEXT NOT NULL,
    rule           TEXT NOT NULL,
    operations     INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX sessions_by_subject ON sessions (issuer, subject, entry);
CREATE INDEX sessions_by_behalf ON sessions (behalf_issuer, behalf_subject, entry);
CREATE INDEX sessions_by_caller ON sessions (caller, entry);
CREATE INDEX sessions_by_connection ON sessions (connection, entry);

CREATE TABLE operations (
    entry   INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    at      INTEGER NOT NULL,
    class   TEXT NOT NULL,
    text    TEXT NOT NULL,
    params  TEXT,
    verbs   TEXT,
    objects TEXT,
    writes  INTEGER NOT NULL,
    effect  TEXT NOT NULL,
    rule    TEXT NOT NULL,
    policy  TEXT NOT NULL,
    outcome TEXT NOT NULL,
    code    TEXT NOT NULL DEFAULT '',
    rows    INTEGER NOT NULL DEFAULT 0,
    bytes   INTEGER NOT NULL DEFAULT 0,
    masked  INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX operations_by_session ON operations (session, entry);

CREATE TABLE verbs (verb TEXT NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (verb, entry)) WITHOUT ROWID;
CREATE TABLE objects (object TEXT NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (object, entry)) WITHOUT ROWID;

-- unicode61 splits customer_id into customer and id, so both are found, and
-- customer_id itself is found as the phrase of the two. The text is kept once,
-- in operations; words keeps its own copy so that a row can be deleted.
CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'unicode61');
-- What is deleted must not stay in the file.
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);

PRAGMA user_version = 1;
