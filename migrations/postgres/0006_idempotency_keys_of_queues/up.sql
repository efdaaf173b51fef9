-- An Idempotency-Key is one of its queue: who may use the one queue is not to meet, or to learn of,
-- keys of the others. The key comes first, so that processes of the version before, which look for
-- it alone, find it as fast as before while they run beside new ones.
CREATE UNIQUE INDEX tasks_idempotency_key_of_queue ON tasks (idempotency_key, queue_name)
    WHERE idempotency_key IS NOT NULL;
DROP INDEX tasks_idempotency_key;
