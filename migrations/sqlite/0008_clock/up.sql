-- Grows each time that stored times were moved because the clock was set, so that of several
-- processes which notice it one does so.
ALTER TABLE routing ADD COLUMN clock_steps BIGINT NOT NULL DEFAULT 0;
