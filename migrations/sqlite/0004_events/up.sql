-- What happened to tasks lately, for those who watch: one row for what one transaction brought
-- about, as lines of JSON. Seqs ascend in the order in which transactions ended, but for gaps of
-- those that failed. `bytes` stands before the text, so that sizes are added up without reading it.
CREATE TABLE events (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    at     BIGINT NOT NULL,
    bytes  BIGINT NOT NULL,
    lines  TEXT NOT NULL
);

-- One row. Events up to `trimmed_seq` have been deleted.
CREATE TABLE event_log (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    trimmed_seq BIGINT NOT NULL
);
INSERT INTO event_log (id, trimmed_seq) VALUES (1, 0);

-- The steps that a task has taken since it was enqueued: what, in which attempt, when.
ALTER TABLE tasks ADD COLUMN history TEXT NOT NULL DEFAULT '';
