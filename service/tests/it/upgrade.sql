INSERT INTO executors (name, kind, task_paths, concurrency, lease_us, paused, created_at, updated_at)
VALUES ('tom', 1, '["*"]', 10, 60000000, FALSE, 1795694400000000, 1795694400000000);
INSERT INTO tasks (seq, id, task_path, queue_name, priority, enqueued_at, stage, executor_id,
    due_at, attempts, attempts_before, deliveries, worker_ids, lease_secret, lease_renewed_at,
    lease_expires_at, deadline_at, detached, started_at, last_attempted_at, finished_at)
VALUES
    (1, x'00000000000000000000000000000001', 'a.b', 'default', 0, 1795694400000000, 1, 1,
     1795694400000000, 0, 0, 0, '[]', NULL, NULL, NULL, NULL, FALSE, NULL, NULL, NULL),
    (2, x'00000000000000000000000000000002', 'a.b', 'default', 0, 1795694400000000, 2, 1,
     1795694400000000, 1, 0, 1, '["w"]', x'000102030405060708090a0b0c0d0e0f', 1795694400000000,
     4102444800000000, 4102444800000000, TRUE, 1795694400000000, 1795694400000000, NULL),
    (3, x'00000000000000000000000000000003', 'a.b', 'default', 0, 1795694400000000, 3, 1,
     1795694400000000, 1, 0, 1, '["w"]', NULL, NULL, NULL, NULL, FALSE, 1795694400000000,
     1795694400000000, 1795694400000001);
INSERT INTO task_inputs (task_seq, args, kwargs)
VALUES (1, '[1e-7]', '{}'), (2, '[]', '{}'), (3, '[]', '{}');
INSERT INTO task_results (task_seq, return_value) VALUES (3, '{"b": 1}');
