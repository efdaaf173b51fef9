-- Due tasks of an executor in one order over all queues, for claims that need not keep queues apart.
-- All priorities are -100 or more: only a statement that says so uses this index, so that none for
-- one queue walks through all others in it, however little the planner knows of them.
CREATE INDEX tasks_in_order ON tasks (executor_id, priority DESC, due_at, seq, queue_name)
    WHERE stage = 1 AND priority >= -100;

-- What runs, by when it was started: who counts knows the older ones already. It takes the place of
-- the index by executor and queue, in which what has ended would lie among what runs. Here, too, only
-- a statement that speaks of that time uses it.
DROP INDEX tasks_in_flight;
CREATE INDEX tasks_started ON tasks (last_attempted_at, executor_id, queue_name)
    WHERE stage = 2 AND last_attempted_at IS NOT NULL;

-- Places at which a transaction has let tasks wait that were due before it began, so that claims of
-- other processes look there again. Rows are read for minutes at most.
CREATE TABLE rewinds (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          BIGINT NOT NULL,
    executor_id BIGINT NOT NULL,
    priority    SMALLINT NOT NULL,
    due_at      BIGINT NOT NULL
);
CREATE INDEX rewinds_by_time ON rewinds (at);

-- Errors that were left out of the record, the oldest first, since there were too many.
ALTER TABLE tasks ADD COLUMN errors_dropped INTEGER NOT NULL DEFAULT 0;
