//! Opens connections: one for the writer, a pool for the readers, single ones for other uses.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use diesel::{
    Connection as _, ConnectionError,
    connection::SimpleConnection,
    r2d2::{
        ConnectionManager, CustomizeConnection, NopErrorHandler, Pool as R2d2Pool, PooledConnection,
    },
    sqlite::SqliteConnection,
};

use super::{
    error::{Error, Result},
    file::{self, DatabaseFile},
    guard::{Guard, Patience},
    link::{Connection, Link},
    postgres::{self, Manager, Session},
};
use crate::config::{Database, DatabaseUrl};

/// How long a reader waits for a free connection of the pool.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The readers' connections.
#[derive(Clone)]
pub(super) enum Pool {
    Sqlite(R2d2Pool<ConnectionManager<SqliteConnection>>),
    Postgres(R2d2Pool<Manager>),
}

pub(super) enum Reader {
    Sqlite(PooledConnection<ConnectionManager<SqliteConnection>>),
    Postgres(PooledConnection<Manager>),
}

impl Pool {
    pub(super) fn open(
        database: &Database,
        file: Arc<DatabaseFile>,
        guard: &Arc<Guard>,
    ) -> anyhow::Result<Self> {
        Ok(match &database.url {
            DatabaseUrl::Sqlite(path) => Self::Sqlite(
                R2d2Pool::builder()
                    .max_size(database.readers)
                    .min_idle(Some(1))
                    .connection_timeout(CHECKOUT_TIMEOUT)
                    .connection_customizer(Box::new(ReadOnly { file }))
                    .build(ConnectionManager::new(sqlite_name(path)?))?,
            ),
            DatabaseUrl::Postgres(url) => Self::Postgres(
                R2d2Pool::builder()
                    .max_size(database.readers)
                    .min_idle(Some(1))
                    .connection_timeout(CHECKOUT_TIMEOUT)
                    // Not logged here: the writer says once that the database is away.
                    .error_handler(Box::new(NopErrorHandler))
                    .build(Manager {
                        url: url.clone(),
                        session: Session { pooled: database.pooled },
                        guard: Arc::clone(guard),
                    })?,
            ),
        })
    }

    /// Whether reading works while something else keeps the database from being written.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::Postgres(_) => false,
        }
    }

    pub(super) fn reader(&self) -> Result<Reader> {
        Ok(match self {
            Self::Sqlite(pool) => Reader::Sqlite(pool.get()?),
            Self::Postgres(pool) => Reader::Postgres(pool.get()?),
        })
    }
}

impl Reader {
    /// Runs `body` on one snapshot, so that all its statements see the same state.
    pub(super) fn snapshot<T>(&mut self, body: impl FnOnce(Link<'_>) -> Result<T>) -> Result<T> {
        match self {
            Self::Sqlite(c) => c.transaction::<_, Error, _>(|c| body(Link::Sqlite(c))),
            Self::Postgres(c) => c
                .build_transaction()
                .repeatable_read()
                .read_only()
                .run::<_, Error, _>(|c| body(Link::Postgres(c))),
        }
    }

    /// Runs `body` in a transaction that may take locks. On PostgreSQL each statement sees what was
    /// committed before it.
    pub(super) fn transaction<T>(&mut self, body: impl FnOnce(Link<'_>) -> Result<T>) -> Result<T> {
        match self {
            Self::Sqlite(c) => c.transaction::<_, Error, _>(|c| body(Link::Sqlite(c))),
            Self::Postgres(c) => {
                postgres::transaction(c).run::<_, Error, _>(|c| body(Link::Postgres(c)))
            }
        }
    }
}

/// Makes the readers' connections to SQLite read-only, whatever a statement says.
#[derive(Debug)]
struct ReadOnly {
    file: Arc<DatabaseFile>,
}

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for ReadOnly {
    fn on_acquire(
        &self,
        connection: &mut SqliteConnection,
    ) -> std::result::Result<(), diesel::r2d2::Error> {
        connection
            .batch_execute("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON;")
            .map_err(diesel::r2d2::Error::QueryError)?;
        // A connection that was opened while another file had the name must not stay in the pool: a
        // later reader would read that file.
        self.file.check().map_err(|misplaced| {
            diesel::r2d2::Error::ConnectionError(ConnectionError::BadConnection(
                misplaced.to_string(),
            ))
        })
    }
}

/// Opens the writer's connection.
pub(super) fn open_writer(database: &Database, guard: &Guard) -> anyhow::Result<Connection> {
    Ok(match &database.url {
        DatabaseUrl::Sqlite(path) => {
            file::make_private(path)
                .with_context(|| format!("cannot give {} its owner", path.display()))?;
            let mut connection = SqliteConnection::establish(sqlite_name(path)?)
                .with_context(|| format!("cannot open {}", path.display()))?;
            // Before all other statements: a process that is closing the file holds it for a
            // moment.
            connection.batch_execute("PRAGMA busy_timeout = 5000")?;
            let synchronous = database.synchronous;
            connection
                .batch_execute(&format!(
                    "PRAGMA auto_vacuum = INCREMENTAL; \
                     PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; \
                     PRAGMA foreign_keys = ON; PRAGMA cache_size = -65536; \
                     PRAGMA journal_size_limit = 67108864;",
                ))
                .map_err(|error| {
                    let advice = advice(&error.to_string());
                    anyhow!(error).context(format!("cannot use {}{advice}", path.display()))
                })?;
            Connection::Sqlite(connection)
        }
        DatabaseUrl::Postgres(url) => {
            let mut c = postgres::connect(url, guard, "writer", Patience::Statement)?;
            postgres::refuse_unusable(&mut c)?;
            Session { pooled: database.pooled }.apply(&mut c)?;
            Connection::Postgres(c)
        }
    })
}

/// Opens a connection for LISTEN. It must not lead through a pooler, which would lend the session
/// to others.
pub(super) fn open_listener(url: &str, guard: &Guard) -> anyhow::Result<Connection> {
    let mut c = postgres::connect(url, guard, "listener", Patience::Prompt)?;
    Session { pooled: false }.apply(&mut c)?;
    Ok(Connection::Postgres(c))
}

/// Opens a connection for work that takes long, without the time limits of the others.
pub(super) fn open_sweeper(database: &Database, guard: &Guard) -> anyhow::Result<Connection> {
    match &database.url {
        DatabaseUrl::Sqlite(_) => open_writer(database, guard),
        DatabaseUrl::Postgres(url) => {
            let mut c = postgres::connect(url, guard, "sweeper", Patience::Endless)?;
            Session { pooled: database.pooled }.apply_without_limits(&mut c)?;
            Ok(Connection::Postgres(c))
        }
    }
}

/// Opens a connection to look at a database, and changes no setting of the database.
pub(super) fn open_visitor(database: &Database, guard: &Guard) -> anyhow::Result<Connection> {
    Ok(match &database.url {
        DatabaseUrl::Sqlite(path) => {
            let mut connection = SqliteConnection::establish(sqlite_name(path)?)
                .with_context(|| format!("cannot open {}", path.display()))?;
            connection.batch_execute("PRAGMA busy_timeout = 5000")?;
            Connection::Sqlite(connection)
        }
        DatabaseUrl::Postgres(url) => {
            let mut c = postgres::connect(url, guard, "visitor", Patience::Prompt)?;
            Session { pooled: database.pooled }.apply(&mut c)?;
            Connection::Postgres(c)
        }
    })
}

/// Advice on an SQLite file that cannot be used. It begins with a colon, and is empty for an
/// unknown error.
pub(super) fn advice(error: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|words| error.contains(words));
    if says(&["not a database"]) {
        ": it is no SQLite file (does database_url name the right one?), or a damaged one"
    } else if says(&["malformed", "corrupt"]) {
        ": it is damaged; restore a backup"
    } else if says(&["locked"]) {
        ": another program holds it locked"
    } else if says(&["readonly", "unable to open"]) {
        ": this user may not write it, or its folder"
    } else if says(&["is full", "disk I/O error"]) {
        ": is there room on its disk, and is the disk in order?"
    } else {
        ""
    }
}

fn sqlite_name(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the path of the SQLite file must be UTF-8")
}
