-- Times are microseconds since 1970 in UTC, durations microseconds, enums the numbers of
-- service/src/domain. The view `task_overview` below is for people.

CREATE TABLE executors (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT NOT NULL UNIQUE,
    kind            SMALLINT NOT NULL,
    task_paths      TEXT NOT NULL,
    concurrency     INTEGER NOT NULL,
    lease_us        BIGINT NOT NULL,
    timeout_us      BIGINT,
    max_attempts    INTEGER,
    backoff         TEXT,
    paused          BOOLEAN NOT NULL,
    url             TEXT,
    secret          TEXT,
    previous_secret TEXT,
    -- The circuit: deliveries that failed in a row, and until when nothing is sent.
    failures        INTEGER NOT NULL DEFAULT 0,
    failed_at       BIGINT,
    held_until      BIGINT,
    hold_reason     TEXT,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
);

-- One row. `version` grows with each change to executors, so that every process sees when its
-- copy is old. Waiting tasks from `next_seq` to `end_seq` still have to be routed anew.
CREATE TABLE routing (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    version  BIGINT NOT NULL,
    next_seq BIGINT NOT NULL,
    end_seq  BIGINT NOT NULL
);
INSERT INTO routing (id, version, next_seq, end_seq) VALUES (1, 1, 1, 0);

-- `seq` is the order of enqueuing; it is reserved before the insert and never used twice.
CREATE TABLE task_seqs (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    last BIGINT NOT NULL
);
INSERT INTO task_seqs (id, last) VALUES (1, 0);

CREATE TABLE tasks (
    seq                 INTEGER PRIMARY KEY,
    id                  BLOB NOT NULL UNIQUE,
    task_path           TEXT NOT NULL,
    queue_name          TEXT NOT NULL,
    priority            SMALLINT NOT NULL,
    enqueued_at         BIGINT NOT NULL,
    expires_at          BIGINT,
    timeout_us          BIGINT,
    max_attempts        INTEGER,
    backoff             TEXT,
    unique_key          TEXT,
    idempotency_key     TEXT,
    stage               SMALLINT NOT NULL,
    executor_id         BIGINT,
    due_at              BIGINT NOT NULL,
    attempts            INTEGER NOT NULL,
    -- Attempts that do not count any more, because somebody retried the task by hand.
    attempts_before     INTEGER NOT NULL,
    deliveries          INTEGER NOT NULL,
    worker_ids          TEXT NOT NULL,
    lease_secret        BLOB,
    lease_renewed_at    BIGINT,
    lease_expires_at    BIGINT,
    deadline_at         BIGINT,
    -- The executor answered 202 and reports by itself.
    detached            BOOLEAN NOT NULL,
    started_at          BIGINT,
    last_attempted_at   BIGINT,
    finished_at         BIGINT,
    cancel_requested_at BIGINT,
    progress_fraction   DOUBLE,
    progress_message    TEXT
);

-- The partial indexes hold waiting and running work only, so that what has ended, waits for
-- next week or has no executor costs a claim nothing.
CREATE INDEX tasks_available ON tasks (executor_id, priority DESC, due_at, seq) WHERE stage = 1;
CREATE INDEX tasks_scheduled ON tasks (due_at) WHERE stage = 0;
CREATE INDEX tasks_running ON tasks (lease_expires_at, executor_id) WHERE stage = 2;
CREATE INDEX tasks_expiring ON tasks (expires_at)
    WHERE stage IN (0, 1) AND expires_at IS NOT NULL;
CREATE INDEX tasks_ended_badly ON tasks (stage, seq) WHERE stage IN (4, 5);
CREATE UNIQUE INDEX tasks_unique_key ON tasks (unique_key)
    WHERE stage IN (0, 1, 2) AND unique_key IS NOT NULL;
CREATE UNIQUE INDEX tasks_idempotency_key ON tasks (idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- What never changes and may be large, apart from what changes often.
CREATE TABLE task_inputs (
    task_seq    INTEGER PRIMARY KEY REFERENCES tasks (seq) ON DELETE CASCADE,
    args        TEXT NOT NULL,
    kwargs      TEXT NOT NULL,
    -- SHA-256 of the request, where it can be repeated.
    fingerprint BLOB,
    traceparent TEXT
);

CREATE TABLE task_labels (
    task_seq BIGINT NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
    key      TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (task_seq, key)
);
CREATE INDEX task_labels_by_value ON task_labels (key, value, task_seq);

-- No row: the task returned null.
CREATE TABLE task_results (
    task_seq     INTEGER PRIMARY KEY REFERENCES tasks (seq) ON DELETE CASCADE,
    return_value TEXT NOT NULL
);

CREATE TABLE task_errors (
    id                   INTEGER PRIMARY KEY AUTOINCREMENT,
    task_seq             BIGINT NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
    attempt              INTEGER NOT NULL,
    kind                 SMALLINT NOT NULL,
    at                   BIGINT NOT NULL,
    exception_class_path TEXT,
    message              TEXT NOT NULL,
    traceback            TEXT
);
CREATE INDEX task_errors_by_task ON task_errors (task_seq, id);

CREATE TABLE task_logs (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    task_seq BIGINT NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
    attempt  INTEGER NOT NULL,
    at       BIGINT NOT NULL,
    level    SMALLINT NOT NULL,
    bytes    INTEGER NOT NULL,
    message  TEXT NOT NULL
);
CREATE INDEX task_logs_by_task ON task_logs (task_seq, id);

-- How large each log is, so that its bounds are kept without reading it.
CREATE TABLE task_log_totals (
    task_seq INTEGER PRIMARY KEY REFERENCES tasks (seq) ON DELETE CASCADE,
    lines    BIGINT NOT NULL,
    bytes    BIGINT NOT NULL,
    dropped  BIGINT NOT NULL
);

CREATE VIEW task_overview AS
SELECT
    lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-' || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS id,
    CASE stage
        WHEN 0 THEN 'READY' WHEN 1 THEN 'READY' WHEN 2 THEN 'RUNNING'
        WHEN 3 THEN 'SUCCESSFUL' WHEN 4 THEN 'FAILED' ELSE 'CANCELLED'
    END AS status,
    task_path,
    queue_name,
    (SELECT name FROM executors WHERE executors.id = tasks.executor_id) AS executor,
    priority,
    attempts,
    deliveries,
    strftime('%Y-%m-%dT%H:%M:%fZ', enqueued_at / 1000000.0, 'unixepoch') AS enqueued_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', due_at / 1000000.0, 'unixepoch') AS due_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', finished_at / 1000000.0, 'unixepoch') AS finished_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', lease_expires_at / 1000000.0, 'unixepoch') AS lease_expires_at,
    progress_fraction,
    progress_message
FROM tasks;
