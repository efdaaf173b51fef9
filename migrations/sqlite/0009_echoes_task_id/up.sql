-- Of executors of kind 0 (http): only an answer that carries the task's id is taken as their success.
ALTER TABLE executors ADD COLUMN echoes_task_id BOOLEAN NOT NULL DEFAULT FALSE;
