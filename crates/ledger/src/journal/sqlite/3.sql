-- The third version: a request may end as saved, when its answer was given again. Then nothing was used, and its row says
-- what would have been.

CREATE TABLE ending_3 (
    hold           INTEGER PRIMARY KEY REFERENCES hold (id),
    at             INTEGER NOT NULL,
    how            INTEGER NOT NULL CHECK (how IN (1, 2, 3, 4)), -- settled, released, lost, saved
    reason         INTEGER NOT NULL,
    source         INTEGER,
    input_uncached INTEGER, -- what was used, or saved; NULL is unknown, which is not zero
    cache_read     INTEGER,
    cache_write_5m INTEGER,
    cache_write_1h INTEGER,
    output         INTEGER,
    reasoning      INTEGER,
    compute_us     INTEGER,
    cost           INTEGER, -- or what was saved is worth; NULL is unpriced or unknown
    CHECK (how = 3 OR input_uncached IS NOT NULL),
    CHECK (how <> 1 OR source IS NOT NULL)
) STRICT;
INSERT INTO ending_3
    SELECT hold, at, how, reason, source, input_uncached, cache_read, cache_write_5m, cache_write_1h, output, reasoning,
           compute_us, cost
    FROM ending;
DROP TABLE ending;
ALTER TABLE ending_3 RENAME TO ending;
CREATE TRIGGER ending_keeps BEFORE UPDATE ON ending BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
CREATE TRIGGER ending_stays BEFORE DELETE ON ending
    WHEN (SELECT at FROM hold WHERE id = OLD.hold) >= (SELECT dropped_before FROM retention)
    BEGIN SELECT RAISE(ABORT, 'the book is append-only'); END;
