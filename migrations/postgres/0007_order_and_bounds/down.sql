ALTER TABLE tasks DROP COLUMN errors_dropped;
DROP TABLE rewinds;
DROP INDEX tasks_started;
CREATE INDEX tasks_in_flight ON tasks (executor_id, queue_name) WHERE stage = 2;
DROP INDEX tasks_in_order;
