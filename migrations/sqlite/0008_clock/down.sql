ALTER TABLE routing DROP COLUMN clock_steps;
