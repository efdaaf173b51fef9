ALTER TABLE executors DROP COLUMN echoes_task_id;
