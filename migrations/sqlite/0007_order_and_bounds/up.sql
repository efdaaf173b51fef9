-- Due tasks of an executor in one order over all queues, for claims that need not keep queues apart.
CREATE INDEX tasks_in_order ON tasks (executor_id, priority DESC, due_at, seq, queue_name)
    WHERE stage = 1;

-- Errors that were left out of the record, the oldest first, since there were too many.
ALTER TABLE tasks ADD COLUMN errors_dropped INTEGER NOT NULL DEFAULT 0;
