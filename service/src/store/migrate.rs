use anyhow::{Context, bail};
use diesel::Connection as _;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{dialect, link::Connection};

pub(super) const SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");
pub(super) const POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/postgres");

/// Brings the schema to what this binary needs and returns the names of what it ran. A schema
/// that is newer than the binary is refused, since the binary cannot know what it means.
pub(super) fn run(connection: &mut Connection) -> anyhow::Result<Vec<String>> {
    // All in one transaction: nothing is ever half migrated, and of several processes that start
    // together one does it while the others wait.
    let ran = match connection {
        Connection::Sqlite(c) => c.exclusive_transaction(|c| pending_after_check(c, SQLITE)),
        Connection::Postgres(c) => c.transaction(|c| {
            dialect::lock_migrations(c)?;
            pending_after_check(c, POSTGRES)
        }),
    };
    ran.context("cannot bring the schema up to date (is there room on the database's disk?)")
}

fn pending_after_check<DB: diesel::backend::Backend>(
    connection: &mut impl MigrationHarness<DB>,
    source: EmbeddedMigrations,
) -> anyhow::Result<Vec<String>> {
    use diesel::migration::MigrationSource;
    let known: Vec<String> = MigrationSource::<DB>::migrations(&source)
        .map_err(anyhow::Error::from_boxed)?
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    let applied = connection
        .applied_migrations()
        .map_err(anyhow::Error::from_boxed)
        .context("cannot read the applied migrations")?;
    if let Some(newer) = applied.iter().find(|version| !known.contains(&version.to_string())) {
        bail!(
            "the database has migration {newer}, which this nightshift does not know: \
             it is older than the database"
        );
    }
    let ran = connection
        .run_pending_migrations(source)
        .map_err(anyhow::Error::from_boxed)
        .context("a migration failed")?;
    Ok(ran.iter().map(ToString::to_string).collect())
}
