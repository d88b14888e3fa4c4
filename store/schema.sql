-- next is the first ledger entry that is not indexed. Times are microseconds
-- since 1970: reached is the latest seen, and back how far an entry's ever lay
-- before the latest at that point, as when a clock is set back.
CREATE TABLE progress (next INTEGER NOT NULL, reached INTEGER, back INTEGER NOT NULL);
INSERT INTO progress VALUES (0, NULL, 0);

-- The first entry at which the latest time seen reached a second.
CREATE TABLE seconds (second INTEGER PRIMARY KEY, entry INTEGER NOT NULL);

CREATE TABLE sessions (
    entry          INTEGER PRIMARY KEY, -- of the ledger
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
    operations     INTEGER NOT NULL DEFAULT 0,
    erased         TEXT, -- a mark, in JSON: who let the recording go
    held           TEXT, -- a mark: who holds it
    skill          TEXT, -- the registered skill that the caller is, in JSON
    asserted       TEXT  -- what the client said of itself, in JSON
);
-- What retention looks through.
CREATE INDEX sessions_to_erase ON sessions (connection, ended) WHERE erased IS NULL AND held IS NULL AND state = 'closed';

CREATE TABLE operations (
    entry   INTEGER PRIMARY KEY,
    opened  INTEGER NOT NULL, -- the entry of its session
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
    settled INTEGER NOT NULL DEFAULT 0,
    masks    TEXT, -- rules that hid a part of the answer
    dry_run  TEXT, -- rules in dry-run that would have decided otherwise
    approval TEXT NOT NULL DEFAULT ''
);
CREATE INDEX operations_by_session ON operations (opened, entry);

-- For each value of each field, such as "who:ana", the list of those that
-- have it, in order: any page of any list is read off one of them, from where
-- the page begins.
CREATE TABLE names (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE session_lists (name INTEGER NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (name, entry)) WITHOUT ROWID;
CREATE TABLE operation_lists (name INTEGER NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (name, entry)) WITHOUT ROWID;

-- unicode61 splits customer_id into customer and id: both are found, and
-- customer_id itself as the phrase of the two. The trigram tokenizer would
-- find parts of words too, at several times the size, and finds nothing
-- shorter than three characters, such as id. Every operation has a row here
-- with the word "row" in every: from these, words that must not occur are
-- taken away.
CREATE VIRTUAL TABLE words USING fts5 (text, every, tokenize = 'unicode61');
-- What is deleted must not stay in the file.
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);

PRAGMA user_version = 5;
