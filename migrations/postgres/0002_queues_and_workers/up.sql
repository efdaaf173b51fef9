-- Settings of queues; a queue without a row is neither paused nor limited.
CREATE TABLE queues (
    name        TEXT PRIMARY KEY,
    paused      BOOLEAN NOT NULL,
    -- How many of its tasks may run at once, over all executors; NULL: no limit.
    concurrency INTEGER,
    updated_at  BIGINT NOT NULL
);

-- Due tasks in lanes: one for each executor and queue, so that a paused or full queue is passed
-- over whole, whatever lies in it. `executors.concurrency` may be 0 from here on: no limit.
DROP INDEX tasks_available;
CREATE INDEX tasks_available ON tasks (executor_id, queue_name, priority DESC, due_at, seq)
    WHERE stage = 1;

-- What runs: by the end of its lease for the sweep, by executor and queue for their limits.
DROP INDEX tasks_running;
CREATE INDEX tasks_leased ON tasks (lease_expires_at) WHERE stage = 2;
CREATE INDEX tasks_in_flight ON tasks (executor_id, queue_name) WHERE stage = 2;
-- Attempts that were asked to stop, for the process that runs them.
CREATE INDEX tasks_stopping ON tasks (cancel_requested_at)
    WHERE stage = 2 AND cancel_requested_at IS NOT NULL;

-- What has ended, by its end, for the pruner.
CREATE INDEX tasks_ended ON tasks (stage, finished_at) WHERE stage IN (3, 4, 5);

-- A task's row has three versions in its life, and the dead ones lie where a claim begins to
-- look, so they are to go early, however large the table has become.
ALTER TABLE tasks SET (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_cost_limit = 2000
);
