-- The second version: accounts with records, keys with roles, processes, tasks, price sheets, limits, rollups, retention.

ALTER TABLE account ADD COLUMN kind INTEGER;
ALTER TABLE account ADD COLUMN display_name TEXT;
ALTER TABLE account ADD COLUMN cost_centre TEXT;
ALTER TABLE account ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN closed_at INTEGER;

-- Names may repeat while a key is rotated; the writer looks after them.
DROP INDEX api_key_active_name;
ALTER TABLE api_key ADD COLUMN role TEXT NOT NULL DEFAULT 'member';
ALTER TABLE api_key ADD COLUMN scopes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE api_key ADD COLUMN expires_at INTEGER;
ALTER TABLE api_key ADD COLUMN rotated_from TEXT REFERENCES api_key (id);
ALTER TABLE api_key ADD COLUMN created_by TEXT;
CREATE INDEX api_key_name ON api_key (account, name);

-- A price is a whole sheet, in its canonical JSON.
DROP TRIGGER price_keeps;
ALTER TABLE price ADD COLUMN sheet TEXT NOT NULL DEFAULT '{}';
UPDATE price SET sheet = json_object('standard', json_object('rates', json_patch('{}', json_object(
    'input_uncached', input_uncached, 'cache_read', cache_read, 'cache_write_5m', cache_write_5m,
    'cache_write_1h', cache_write_1h, 'output', output))));
ALTER TABLE price DROP COLUMN input_uncached;
ALTER TABLE price DROP COLUMN cache_read;
ALTER TABLE price DROP COLUMN cache_write_5m;
ALTER TABLE price DROP COLUMN cache_write_1h;
ALTER TABLE price DROP COLUMN output;
CREATE TRIGGER price_keeps BEFORE UPDATE ON price BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;

-- A server on this ledger. One that is not seen for a while has ended: its holds and leases are anybody's to close.
CREATE TABLE process (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;

-- Counts what writers remember and others may change: prices, accounts, limits, processes.
CREATE TABLE change (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO change VALUES (1, 0);

-- Texts that many rows share: of each kind, each once.
CREATE TABLE name (
    id   INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL, -- key, end user, circumstances
    text TEXT NOT NULL,
    UNIQUE (kind, text)
) STRICT;

CREATE TABLE task (
    id         INTEGER PRIMARY KEY,
    path       TEXT NOT NULL UNIQUE,
    root       INTEGER REFERENCES task (id), -- NULL: it is one
    created_at INTEGER NOT NULL,
    account    INTEGER REFERENCES account (id), -- who opened it
    state      INTEGER NOT NULL DEFAULT 1,
    reason     TEXT, -- why it is in this state
    state_at   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX task_root ON task (root);

ALTER TABLE hold ADD COLUMN process INTEGER REFERENCES process (id);
ALTER TABLE hold ADD COLUMN api_key INTEGER REFERENCES name (id);
ALTER TABLE hold ADD COLUMN task INTEGER REFERENCES task (id);
ALTER TABLE hold ADD COLUMN end_user INTEGER REFERENCES name (id);
ALTER TABLE hold ADD COLUMN circumstances INTEGER REFERENCES name (id);
CREATE INDEX hold_task ON hold (task) WHERE task IS NOT NULL;

ALTER TABLE open_hold ADD COLUMN process INTEGER REFERENCES process (id);

ALTER TABLE entry ADD COLUMN compute_us INTEGER NOT NULL DEFAULT 0 CHECK (compute_us >= 0);

-- A lost hold now books what was held, as an estimate; one of the first version stays unknown.
CREATE TABLE ending_2 (
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
    compute_us     INTEGER,
    cost           INTEGER, -- NULL is unpriced or unknown
    CHECK (how = 3 OR input_uncached IS NOT NULL),
    CHECK (how <> 1 OR source IS NOT NULL)
) STRICT;
INSERT INTO ending_2
    SELECT hold, at, how, reason, source, input_uncached, cache_read, cache_write_5m, cache_write_1h, output, reasoning,
           CASE WHEN input_uncached IS NULL THEN NULL ELSE 0 END, cost
    FROM ending;
DROP TABLE ending;
ALTER TABLE ending_2 RENAME TO ending;
CREATE TRIGGER ending_keeps BEFORE UPDATE ON ending BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;

-- What may be used of a measure, by whom, in which window. Its amount, action and thresholds may change; all else stays.
CREATE TABLE spending_limit (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    scope      TEXT NOT NULL, -- in words, as most columns here: `each end_user of acme`, `month in Europe/Berlin`
    measure    TEXT NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount >= 0),
    span       TEXT NOT NULL,
    action     TEXT NOT NULL,
    thresholds TEXT NOT NULL, -- percentages, in JSON
    declared   INTEGER NOT NULL DEFAULT 0, -- 1: it is written in a configuration file
    created_at INTEGER NOT NULL,
    created_by TEXT,
    ended_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX spending_limit_name ON spending_limit (name) WHERE ended_at IS NULL;

-- Which windows a hold is counted in, in JSON: [[limit, start, measure, subject], …].
ALTER TABLE hold ADD COLUMN charges TEXT;

-- What all processes together were granted of a limit in one window: never more than its amount.
CREATE TABLE limit_window (
    spending_limit INTEGER NOT NULL REFERENCES spending_limit (id),
    subject        TEXT NOT NULL, -- which one, of a limit that tells several apart
    window_start   INTEGER NOT NULL,
    opened_at      INTEGER NOT NULL, -- the first hold's time
    granted_total  INTEGER NOT NULL,
    short_at       INTEGER, -- when somebody last lacked what others have and do not use
    PRIMARY KEY (spending_limit, subject, window_start)
) STRICT, WITHOUT ROWID;

-- One process' share of it, that it alone spends.
CREATE TABLE escrow (
    spending_limit INTEGER NOT NULL,
    subject        TEXT NOT NULL,
    window_start   INTEGER NOT NULL,
    process        INTEGER NOT NULL, -- 0: nobody, in whose share the spending of ended processes is added up
    granted        INTEGER NOT NULL,
    spent          INTEGER NOT NULL,
    held           INTEGER NOT NULL,
    PRIMARY KEY (spending_limit, subject, window_start, process)
) STRICT, WITHOUT ROWID;
CREATE INDEX escrow_process ON escrow (process);

-- A threshold that was passed, said once for each window.
CREATE TABLE alert (
    spending_limit INTEGER NOT NULL REFERENCES spending_limit (id),
    subject        TEXT NOT NULL,
    window_start   INTEGER NOT NULL,
    threshold      INTEGER NOT NULL,
    at             INTEGER NOT NULL,
    spent          INTEGER NOT NULL,
    tries          INTEGER NOT NULL DEFAULT 0,
    next_try_at    INTEGER NOT NULL,
    delivered_at   INTEGER,
    PRIMARY KEY (spending_limit, subject, window_start, threshold)
) STRICT, WITHOUT ROWID;
CREATE INDEX alert_due ON alert (next_try_at) WHERE delivered_at IS NULL;

-- Sums of the ended requests whose holds began in an hour (its number since 1970), by the process that booked the end, so
-- that no two write one row. Derived; the integrity check compares them.
CREATE TABLE rollup (
    hour           INTEGER NOT NULL,
    process        INTEGER NOT NULL, -- 0: nobody's
    account        INTEGER NOT NULL REFERENCES account (id),
    model          INTEGER NOT NULL REFERENCES model (id),
    task_root      INTEGER NOT NULL, -- 0: no task
    circumstances  INTEGER NOT NULL, -- 0: of the first version
    how            INTEGER NOT NULL,
    reason         INTEGER NOT NULL,
    source         INTEGER NOT NULL, -- 0: nothing was used, or nobody knows
    price          INTEGER NOT NULL, -- the version that it was charged with; 0: it has no cost
    above          INTEGER NOT NULL, -- the input tokens that its rates are those above of, which each request exceeded
    requests       INTEGER NOT NULL,
    unknown        INTEGER NOT NULL, -- those of which nobody can say what they used
    unpriced       INTEGER NOT NULL, -- those that used something that has no price
    input_uncached INTEGER NOT NULL,
    cache_read     INTEGER NOT NULL,
    cache_write_5m INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    output         INTEGER NOT NULL,
    reasoning      INTEGER NOT NULL,
    compute_us     INTEGER NOT NULL,
    cost_upper     INTEGER NOT NULL, -- the sums of costs' upper and lower 32 bits: one sum would not fit above 9.2 million USD
    cost_lower     INTEGER NOT NULL,
    PRIMARY KEY (hour, process, account, model, task_root, circumstances, how, reason, source, price, above)
) STRICT, WITHOUT ROWID;
INSERT INTO rollup
    SELECT (h.at - ((h.at % 3600000) + 3600000) % 3600000) / 3600000, 0, h.account, h.model, 0, 0,
           x.how, x.reason, coalesce(x.source, 0), CASE WHEN x.cost IS NULL THEN 0 ELSE coalesce(h.price, 0) END, 0,
           count(*), sum(x.input_uncached IS NULL),
           sum(x.cost IS NULL AND coalesce(x.input_uncached + x.cache_read + x.cache_write_5m + x.cache_write_1h + x.output, 0) > 0),
           coalesce(sum(x.input_uncached), 0), coalesce(sum(x.cache_read), 0), coalesce(sum(x.cache_write_5m), 0),
           coalesce(sum(x.cache_write_1h), 0), coalesce(sum(x.output), 0), coalesce(sum(x.reasoning), 0), 0,
           coalesce(sum(x.cost >> 32), 0), coalesce(sum(x.cost & 4294967295), 0)
    FROM hold h JOIN ending x ON x.hold = h.id
    GROUP BY 1, 3, 4, 7, 8, 9, 10;

-- Requests whose holds began before this were dropped when they had become old; their rollups stay.
CREATE TABLE retention (
    one            INTEGER PRIMARY KEY CHECK (one = 1),
    dropped_before INTEGER NOT NULL
) STRICT;
INSERT INTO retention VALUES (1, -9223372036854775808);
DROP TRIGGER hold_stays;
DROP TRIGGER entry_stays;
CREATE TRIGGER hold_stays BEFORE DELETE ON hold
    WHEN OLD.at >= (SELECT dropped_before FROM retention)
    BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER ending_stays BEFORE DELETE ON ending
    WHEN (SELECT at FROM hold WHERE id = OLD.hold) >= (SELECT dropped_before FROM retention)
    BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER entry_stays BEFORE DELETE ON entry
    WHEN (SELECT at FROM hold WHERE id = OLD.hold) >= (SELECT dropped_before FROM retention)
    BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;

-- What somebody was told that they owe, in the words in which they were told.
CREATE TABLE statement (
    id           INTEGER PRIMARY KEY,
    account      INTEGER NOT NULL REFERENCES account (id),
    period_start INTEGER NOT NULL,
    period_end   INTEGER NOT NULL,
    closed_at    INTEGER NOT NULL,
    closed_by    TEXT,
    body         TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX statement_period ON statement (account, period_start);
CREATE TRIGGER statement_keeps BEFORE UPDATE ON statement BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER statement_stays BEFORE DELETE ON statement BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
