//! The two databases of a copy. All services are kept from them while it runs.

use std::sync::Arc;

use anyhow::bail;
use diesel::{
    Connection as _,
    connection::SimpleConnection,
    pg::PgConnection,
    prelude::*,
    sql_query,
    sql_types::{Bool, Integer},
};

use crate::{
    config::{Database, DatabaseUrl},
    store::{
        dialect::{MIGRATION_LOCK, ROUTING_LOCK},
        file::FileLock,
        guard::Guard,
        link::{Connection, Link},
        migrate, pool, postgres,
    },
};

/// How often to look, a tenth of a second apart: PostgreSQL may not have noticed yet that a service
/// has gone.
const LOOKS_MAX: u32 = 50;

pub(super) struct Side {
    pub(super) connection: Connection,
    /// The number of the PostgreSQL process that serves the connection; `None` on SQLite.
    backend: Option<i32>,
    _guard: Arc<Guard>,
    _lock: Option<FileLock>,
}

impl Side {
    /// Opens the database that is read. It has to exist and to have this version's schema.
    pub(super) fn source(database: &Database) -> anyhow::Result<Self> {
        if let DatabaseUrl::Sqlite(path) = &database.url
            && !path.exists()
        {
            bail!("{} does not exist", path.display());
        }
        let mut side = Self::open(database, None)?;
        migrate::check(&mut side.connection)?;
        Ok(side)
    }

    /// Opens the database that is written, and brings its schema up to date.
    pub(super) fn target(database: &Database, source: &Self) -> anyhow::Result<Self> {
        let mut side = Self::open(database, source.backend)?;
        if let Connection::Postgres(c) = &mut side.connection {
            postgres::refuse_unusable(c)?;
        }
        migrate::run(&mut side.connection)?;
        Ok(side)
    }

    fn open(database: &Database, other: Option<i32>) -> anyhow::Result<Self> {
        let lock = FileLock::take(&database.url)?;
        let guard = Guard::of(&database.url)?;
        let mut connection = pool::open_sweeper(database, &guard)?;
        let backend = match &mut connection {
            Connection::Sqlite(_) => None,
            Connection::Postgres(c) => Some(hold(c, other)?),
        };
        Ok(Self { connection, backend, _guard: guard, _lock: lock })
    }

    /// Runs `body` on one snapshot of the database.
    pub(super) fn snapshot<T>(
        &mut self,
        body: impl FnOnce(Link<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        match &mut self.connection {
            Connection::Sqlite(c) => c.transaction(|c| body(Link::Sqlite(c))),
            Connection::Postgres(c) => {
                c.build_transaction().repeatable_read().read_only().run(|c| body(Link::Postgres(c)))
            }
        }
    }

    /// Runs `body` in a transaction, and commits it unless `body` fails.
    pub(super) fn transaction<T>(
        &mut self,
        body: impl FnOnce(Link<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        match &mut self.connection {
            Connection::Sqlite(c) => c.immediate_transaction(|c| body(Link::Sqlite(c))),
            Connection::Postgres(c) => postgres::transaction(c).run(|c| body(Link::Postgres(c))),
        }
    }
}

/// Refuses two names of one SQLite file. Without this check the error would be that the file is in
/// use.
pub(super) fn refuse_same_file(from: &DatabaseUrl, to: &DatabaseUrl) -> anyhow::Result<()> {
    if let (DatabaseUrl::Sqlite(from), DatabaseUrl::Sqlite(to)) = (from, to)
        && let (Ok(from), Ok(to)) = (from.canonicalize(), to.canonicalize())
        && from == to
    {
        bail!("source and target are the same file: {}", from.display());
    }
    Ok(())
}

/// Makes sure that no service uses this database, nor starts to while the connection is open.
/// Returns the number of the PostgreSQL process that serves the connection.
fn hold(c: &mut PgConnection, other: Option<i32>) -> anyhow::Result<i32> {
    c.batch_execute("SET application_name = 'nightshift copy'")?;
    if let Some(other) = other
        && is_served_by(c, other)?
    {
        bail!("source and target are the same database");
    }
    for _ in 0..LOOKS_MAX {
        if is_alone(c)? {
            let own: Backend = sql_query("SELECT pg_backend_pid() AS pid").get_result(c)?;
            return Ok(own.pid);
        }
        c.batch_execute("SELECT pg_sleep(0.1)")?;
    }
    bail!("a nightshift is connected to it: stop all that use this database first")
}

#[derive(QueryableByName)]
struct Backend {
    #[diesel(sql_type = Integer)]
    pid: i32,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

fn is_served_by(c: &mut PgConnection, backend: i32) -> anyhow::Result<bool> {
    let found: Answer = sql_query(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
         AND pid = $1 AND application_name = 'nightshift copy') AS yes",
    )
    .bind::<Integer, _>(backend)
    .get_result(c)?;
    Ok(found.yes)
}

/// Takes the locks before it looks for others: a service that starts after the look waits for the
/// locks before it writes.
fn is_alone(c: &mut PgConnection) -> anyhow::Result<bool> {
    let locks = format!(
        "SELECT pg_try_advisory_lock({MIGRATION_LOCK}) AND pg_try_advisory_lock({ROUTING_LOCK}) \
         AS yes"
    );
    let locked: Answer = sql_query(locks).get_result(c)?;
    let alone: Answer = sql_query(
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid() AND application_name LIKE 'nightshift%') AS yes",
    )
    .get_result(c)?;
    Ok(locked.yes && alone.yes)
}
