-- The book, first version. Facts are appended and never changed; triggers hold everyone to that.
-- Times are milliseconds since 1970 UTC, money is picodollars, and every number is an integer.

CREATE TABLE account (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    system INTEGER NOT NULL DEFAULT 0, -- 1: a side of the book itself; a payer may have the same name
    UNIQUE (name, system)
) STRICT;
INSERT INTO account (id, name, system) VALUES (1, 'held', 1), (2, 'earned', 1);

CREATE TABLE model (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Picodollars per token; NULL is unpriced, which is not free.
CREATE TABLE price (
    id             INTEGER PRIMARY KEY,
    model          INTEGER NOT NULL REFERENCES model (id),
    valid_from     INTEGER NOT NULL,
    input_uncached INTEGER,
    cache_read     INTEGER,
    cache_write_5m INTEGER,
    cache_write_1h INTEGER,
    output         INTEGER
) STRICT;
CREATE INDEX price_in_force ON price (model, valid_from, id);

CREATE TABLE hold (
    id      INTEGER PRIMARY KEY,
    request ANY NOT NULL UNIQUE, -- 'req-' and 32 hexadecimal digits as 16 bytes, any other name as text
    account INTEGER NOT NULL REFERENCES account (id),
    model   INTEGER NOT NULL REFERENCES model (id),
    price   INTEGER REFERENCES price (id), -- in force at the time of the hold; it settles the request too
    at      INTEGER NOT NULL
) STRICT;
CREATE INDEX hold_at ON hold (at);

-- At most one end for each hold: its key says so.
CREATE TABLE ending (
    hold           INTEGER PRIMARY KEY REFERENCES hold (id),
    at             INTEGER NOT NULL,
    how            INTEGER NOT NULL CHECK (how IN (1, 2, 3)), -- settled, released, lost
    reason         INTEGER NOT NULL,
    source         INTEGER,
    input_uncached INTEGER, -- what was used; NULL is unknown, which is not zero
    cache_read     INTEGER,
    cache_write_5m INTEGER,
    cache_write_1h INTEGER,
    output         INTEGER,
    reasoning      INTEGER,
    cost           INTEGER, -- NULL is unpriced or unknown
    CHECK ((how = 3) = (input_uncached IS NULL)),
    CHECK ((how = 1) = (source IS NOT NULL))
) STRICT;

-- Each row takes from one account what it gives to another, so the accounts always sum to zero.
CREATE TABLE entry (
    hold           INTEGER NOT NULL REFERENCES hold (id),
    line           INTEGER NOT NULL,
    from_account   INTEGER NOT NULL REFERENCES account (id),
    to_account     INTEGER NOT NULL REFERENCES account (id),
    input_uncached INTEGER NOT NULL CHECK (input_uncached >= 0),
    cache_read     INTEGER NOT NULL CHECK (cache_read >= 0),
    cache_write_5m INTEGER NOT NULL CHECK (cache_write_5m >= 0),
    cache_write_1h INTEGER NOT NULL CHECK (cache_write_1h >= 0),
    output         INTEGER NOT NULL CHECK (output >= 0),
    money          INTEGER NOT NULL CHECK (money >= 0),
    PRIMARY KEY (hold, line),
    CHECK (from_account <> to_account)
) STRICT, WITHOUT ROWID;

-- The holds without an ending, so that they are found without reading the whole book. Derived; the integrity check compares it.
CREATE TABLE open_hold (
    hold INTEGER PRIMARY KEY REFERENCES hold (id)
) STRICT;

CREATE TABLE api_key (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE, -- SHA-256 of the secret
    name       TEXT NOT NULL,
    account    INTEGER NOT NULL REFERENCES account (id),
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE UNIQUE INDEX api_key_active_name ON api_key (name) WHERE revoked_at IS NULL;

CREATE TRIGGER price_keeps BEFORE UPDATE ON price BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER price_stays BEFORE DELETE ON price BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER hold_keeps BEFORE UPDATE ON hold BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER hold_stays BEFORE DELETE ON hold BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER ending_keeps BEFORE UPDATE ON ending BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER ending_stays BEFORE DELETE ON ending BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER entry_keeps BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER entry_stays BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
