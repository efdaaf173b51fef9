-- When a worker has asked for an executor's tasks last, by the queues that it asked for: so that a task
-- that waits for a worker can say so. The digest is the SHA-256 of their names, which may be too long for
-- an index.
CREATE TABLE asks (
    executor_id BIGINT NOT NULL REFERENCES executors (id) ON DELETE CASCADE,
    digest      BLOB NOT NULL,
    queues      TEXT NOT NULL,
    asked_at    BIGINT NOT NULL,
    PRIMARY KEY (executor_id, digest)
);
