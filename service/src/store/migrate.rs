//! Brings the schema up to date, and checks which version of it a database has. The migrations are
//! part of the program.

use anyhow::{Context, bail};
use diesel::{
    backend::Backend, connection::SimpleConnection, migration::MigrationSource, prelude::*,
    sql_query, sql_types::Text, sqlite::Sqlite,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{
    dialect,
    error::Misplaced,
    link::{Connection, on_engine},
    pool, postgres,
};

pub(super) const SQLITE: EmbeddedMigrations = embed_migrations!("../migrations/sqlite");
pub(super) const POSTGRES: EmbeddedMigrations = embed_migrations!("../migrations/postgres");

/// Runs the migrations that the schema lacks, and returns their names. A schema that is newer than
/// this program is refused, since the program cannot know what it means.
pub(super) fn run(connection: &mut Connection) -> anyhow::Result<Vec<String>> {
    // All of them run in one transaction, so that nothing is ever half migrated. Of several
    // processes that start together, one does it while the others wait.
    let ran = match connection {
        Connection::Sqlite(c) => c.exclusive_transaction(|c| pending_after_check(c, SQLITE)),
        Connection::Postgres(c) => postgres::transaction(c).run(|c| {
            // The wait for the lock and a change of a large table may both take long.
            c.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")?;
            dialect::lock_migrations(c)?;
            pending_after_check(c, POSTGRES)
        }),
    };
    ran.map_err(|error| {
        let advice = match connection {
            Connection::Sqlite(_) => pool::advice(&format!("{error:#}")),
            Connection::Postgres(_) => "",
        };
        error.context(format!("cannot bring the schema up to date{advice}"))
    })
}

/// Refuses a schema of another version, and changes nothing.
pub(super) fn check(connection: &mut Connection) -> anyhow::Result<()> {
    let applied = applied(connection).context("it holds no tables of nightshift")?;
    // Both engines have the same migrations.
    let known = known::<Sqlite>(&SQLITE)?;
    refuse_newer(&known, &applied)?;
    if let Some(missing) = known.iter().find(|version| !applied.contains(version)) {
        bail!("it lacks migration {missing}: run `nightshift migrate` on it first");
    }
    Ok(())
}

/// Refuses a database that was made anew while the service ran. A newer schema is accepted: it is
/// the same database, and other replicas are being upgraded.
///
/// A new database gets no schema here. It has none of the old tokens, so that any client could come
/// in, which the start of a service refuses where it matters.
pub(super) fn check_still_there(connection: &mut Connection) -> anyhow::Result<()> {
    if !dialect::has_schema(&mut connection.link())? {
        bail!(Misplaced::Schema("it is empty".to_owned()));
    }
    let applied = applied(connection)?;
    let known = known::<Sqlite>(&SQLITE)?;
    if let Some(missing) = known.iter().find(|version| !applied.contains(version)) {
        bail!(Misplaced::Schema(format!("it lacks migration {missing}")));
    }
    Ok(())
}

fn applied(connection: &mut Connection) -> QueryResult<Vec<String>> {
    let query = sql_query("SELECT version FROM __diesel_schema_migrations ORDER BY version");
    let applied: Vec<Applied> = on_engine!(&mut connection.link(), c => query.load(c))?;
    Ok(applied.into_iter().map(|row| row.version).collect())
}

#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = Text)]
    version: String,
}

fn pending_after_check<DB: Backend>(
    connection: &mut impl MigrationHarness<DB>,
    source: EmbeddedMigrations,
) -> anyhow::Result<Vec<String>> {
    let applied = connection
        .applied_migrations()
        .map_err(anyhow::Error::from_boxed)
        .context("cannot read the applied migrations")?;
    let applied: Vec<String> = applied.iter().map(ToString::to_string).collect();
    refuse_newer(&known::<DB>(&source)?, &applied)?;
    let ran = connection
        .run_pending_migrations(source)
        .map_err(anyhow::Error::from_boxed)
        .context("a migration failed")?;
    Ok(ran.iter().map(ToString::to_string).collect())
}

fn known<DB: Backend>(source: &EmbeddedMigrations) -> anyhow::Result<Vec<String>> {
    let migrations =
        MigrationSource::<DB>::migrations(source).map_err(anyhow::Error::from_boxed)?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
}

fn refuse_newer(known: &[String], applied: &[String]) -> anyhow::Result<()> {
    if let Some(newer) = applied.iter().find(|version| !known.contains(version)) {
        bail!(
            "the database has migration {newer}, which this nightshift does not know: \
             it is older than the database"
        );
    }
    Ok(())
}
