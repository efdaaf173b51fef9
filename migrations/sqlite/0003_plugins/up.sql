CREATE TABLE plugins (
    name       TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- `component` comes last, so that the rest is read without it.
CREATE TABLE plugin_versions (
    plugin_name  TEXT NOT NULL REFERENCES plugins (name) ON DELETE CASCADE,
    digest       BLOB NOT NULL,
    bytes        BIGINT NOT NULL,
    -- What the component says of its tasks, as JSON.
    tasks        TEXT NOT NULL,
    installed_at BIGINT NOT NULL,
    -- When it was made the active one last; no two of a plugin have the same. New attempts run
    -- the newest.
    activated_at BIGINT NOT NULL,
    component    BLOB NOT NULL,
    PRIMARY KEY (plugin_name, digest)
);

-- Of executors of kind 2 (wasm). Digest and defaults are those of the plugin's active version.
ALTER TABLE executors ADD COLUMN plugin TEXT;
ALTER TABLE executors ADD COLUMN plugin_digest BLOB;
ALTER TABLE executors ADD COLUMN plugin_defaults TEXT;
ALTER TABLE executors ADD COLUMN memory_mib INTEGER;
ALTER TABLE executors ADD COLUMN grants TEXT;
