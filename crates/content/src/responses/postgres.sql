-- What clients may come back to. Everything in here may be deleted at any time; times are milliseconds since 1970 UTC.

CREATE TABLE response (
    tenant        text COLLATE "C" NOT NULL,
    id            text COLLATE "C" NOT NULL,
    created_ms    bigint NOT NULL,
    expires_ms    bigint NOT NULL,
    model         text NOT NULL,
    previous      text COLLATE "C", -- the id that it continues, of the same tenant
    bytes         bigint NOT NULL, -- what the row takes, about
    message_bytes bigint NOT NULL,
    input         text NOT NULL, -- JSON, as the two below
    messages      text NOT NULL,
    response      text NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX response_age ON response (created_ms, bytes);
CREATE INDEX response_end ON response (expires_ms);
