-- What clients may come back to. Everything in here may be deleted at any time; times are milliseconds since 1970 UTC.

CREATE TABLE response (
    tenant        TEXT NOT NULL,
    id            TEXT NOT NULL,
    created_ms    INTEGER NOT NULL,
    expires_ms    INTEGER NOT NULL,
    model         TEXT NOT NULL,
    previous      TEXT, -- the id that it continues, of the same tenant
    bytes         INTEGER NOT NULL, -- what the row takes, about
    message_bytes INTEGER NOT NULL,
    input         TEXT NOT NULL, -- JSON, as the two below
    messages      TEXT NOT NULL,
    response      TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT;
CREATE INDEX response_age ON response (created_ms, bytes);
CREATE INDEX response_end ON response (expires_ms);
