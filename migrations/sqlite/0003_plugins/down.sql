-- Kind 2 is unknown before.
DELETE FROM executors WHERE kind = 2;
ALTER TABLE executors DROP COLUMN grants;
ALTER TABLE executors DROP COLUMN memory_mib;
ALTER TABLE executors DROP COLUMN plugin_defaults;
ALTER TABLE executors DROP COLUMN plugin_digest;
ALTER TABLE executors DROP COLUMN plugin;
DROP TABLE plugin_versions;
DROP TABLE plugins;
