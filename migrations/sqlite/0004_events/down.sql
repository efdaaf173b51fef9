ALTER TABLE tasks DROP COLUMN history;
DROP TABLE event_log;
DROP TABLE events;
