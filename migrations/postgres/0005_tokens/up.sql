-- Who may ask for what. Of a token only its SHA-256 is kept. A revoked one stays, so that its name
-- in the audit log keeps its meaning, and so that nobody is let in because the last one is gone.
CREATE TABLE tokens (
    name         TEXT PRIMARY KEY,
    hash         BYTEA NOT NULL UNIQUE,
    scopes       TEXT NOT NULL,
    queue_names  TEXT,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT,
    revoked_at   BIGINT
);

-- One row. The version moves on when a token is made or revoked, so that processes read them again.
CREATE TABLE token_log (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL
);
INSERT INTO token_log (id, version) VALUES (1, 0);

-- Who registered, changed, cancelled or deleted what.
CREATE TABLE audit_log (
    seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    address TEXT,
    action  TEXT NOT NULL,
    object  TEXT NOT NULL
);
CREATE INDEX audit_log_at ON audit_log (at);
