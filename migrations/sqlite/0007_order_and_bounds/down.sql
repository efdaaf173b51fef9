ALTER TABLE tasks DROP COLUMN errors_dropped;
DROP INDEX tasks_in_order;
