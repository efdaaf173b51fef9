DROP INDEX tasks_ended;
DROP INDEX tasks_stopping;
DROP INDEX tasks_in_flight;
DROP INDEX tasks_leased;
CREATE INDEX tasks_running ON tasks (lease_expires_at, executor_id) WHERE stage = 2;
DROP INDEX tasks_available;
CREATE INDEX tasks_available ON tasks (executor_id, priority DESC, due_at, seq) WHERE stage = 1;
DROP TABLE queues;
