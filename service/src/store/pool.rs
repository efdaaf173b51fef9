//! Opens databases: one connection for the writer, a pool for the readers.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use diesel::{
    Connection as _, ConnectionError,
    connection::{CacheSize, SimpleConnection},
    pg::PgConnection,
    prelude::*,
    r2d2::{
        ConnectionManager, CustomizeConnection, NopErrorHandler, Pool as R2d2Pool, PooledConnection,
    },
    sqlite::SqliteConnection,
};

use super::{
    error::{Error, Result},
    file::{self, DatabaseFile},
    link::{Connection, Link},
};
use crate::config::{Database, DatabaseUrl};

/// How long a reader waits for a free connection.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The readers' connections.
#[derive(Clone)]
pub(super) enum Pool {
    Sqlite(R2d2Pool<ConnectionManager<SqliteConnection>>),
    Postgres(R2d2Pool<ConnectionManager<PgConnection>>),
}

pub(super) enum Reader {
    Sqlite(PooledConnection<ConnectionManager<SqliteConnection>>),
    Postgres(PooledConnection<ConnectionManager<PgConnection>>),
}

impl Pool {
    pub(super) fn open(database: &Database, file: Arc<DatabaseFile>) -> anyhow::Result<Self> {
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
                    .connection_customizer(Box::new(Session { pooled: database.pooled }))
                    // The writer says once that the database is away.
                    .error_handler(Box::new(NopErrorHandler))
                    .build(ConnectionManager::new(with_defaults(url)))?,
            ),
        })
    }

    /// Whether it can be read whatever keeps it from being written.
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
    /// Runs `body` on one snapshot, so that what it reads in several statements fits together.
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

    /// Runs `body` in a transaction in which each statement sees what is committed by then, and
    /// which may take locks.
    pub(super) fn transaction<T>(&mut self, body: impl FnOnce(Link<'_>) -> Result<T>) -> Result<T> {
        match self {
            Self::Sqlite(c) => c.transaction::<_, Error, _>(|c| body(Link::Sqlite(c))),
            Self::Postgres(c) => c.transaction::<_, Error, _>(|c| body(Link::Postgres(c))),
        }
    }
}

/// SQLite's readers cannot write, whatever a statement says.
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
        // One that was opened while another file had the name would be kept, and read later.
        self.file.check().map_err(|misplaced| {
            diesel::r2d2::Error::ConnectionError(ConnectionError::BadConnection(
                misplaced.to_string(),
            ))
        })
    }
}

/// How PostgreSQL's readers are set up.
#[derive(Clone, Copy, Debug)]
struct Session {
    /// A pooler stands in between, which gives each transaction another connection.
    pooled: bool,
}

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Session {
    fn on_acquire(&self, c: &mut PgConnection) -> std::result::Result<(), diesel::r2d2::Error> {
        self.apply(c).map_err(diesel::r2d2::Error::QueryError)
    }
}

impl Session {
    fn apply(self, c: &mut PgConnection) -> diesel::QueryResult<()> {
        if self.pooled {
            // What one connection has prepared, the next does not know.
            c.set_prepared_statement_cache_size(CacheSize::Disabled);
            return Ok(());
        }
        c.batch_execute("SET statement_timeout = '30s'")
    }
}

/// Opens the connection that writes.
pub(super) fn open_writer(database: &Database) -> anyhow::Result<Connection> {
    Ok(match &database.url {
        DatabaseUrl::Sqlite(path) => {
            file::make_private(path);
            let mut connection = SqliteConnection::establish(sqlite_name(path)?)
                .with_context(|| format!("cannot open {}", path.display()))?;
            // First of all: a process that is just closing the file holds it for a moment.
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
                    anyhow!(error).context(format!("cannot use {}: {advice}", path.display()))
                })?;
            Connection::Sqlite(connection)
        }
        DatabaseUrl::Postgres(url) => {
            let mut c = connect_postgres(url)?;
            Session { pooled: database.pooled }.apply(&mut c)?;
            refuse_standby(&mut c)?;
            Connection::Postgres(c)
        }
    })
}

/// Opens a connection for LISTEN, which no pooler may stand before.
pub(super) fn open_listener(url: &str) -> anyhow::Result<Connection> {
    Ok(Connection::Postgres(connect_postgres(url)?))
}

/// Opens a connection for what takes long: without the time limits of the others.
pub(super) fn open_sweeper(database: &Database) -> anyhow::Result<Connection> {
    match &database.url {
        DatabaseUrl::Sqlite(_) => open_writer(database),
        DatabaseUrl::Postgres(url) => Ok(Connection::Postgres(connect_postgres(url)?)),
    }
}

/// Opens a connection for a look, which leaves the database as it is.
pub(super) fn open_visitor(database: &Database) -> anyhow::Result<Connection> {
    Ok(match &database.url {
        DatabaseUrl::Sqlite(path) => {
            let mut connection = SqliteConnection::establish(sqlite_name(path)?)
                .with_context(|| format!("cannot open {}", path.display()))?;
            connection.batch_execute("PRAGMA busy_timeout = 5000")?;
            Connection::Sqlite(connection)
        }
        DatabaseUrl::Postgres(url) => {
            let mut c = connect_postgres(url)?;
            Session { pooled: database.pooled }.apply(&mut c)?;
            Connection::Postgres(c)
        }
    })
}

/// What may be done about an SQLite file that cannot be used.
pub(super) fn advice(error: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|words| error.contains(words));
    if says(&["not a database"]) {
        "it is no SQLite file (does database_url name the right one?), or a damaged one"
    } else if says(&["malformed", "corrupt"]) {
        "it is damaged; restore a backup"
    } else if says(&["locked"]) {
        "another program holds it locked"
    } else if says(&["readonly", "unable to open"]) {
        "this user may not write it, or its folder"
    } else {
        "is there room on its disk, and is the disk in order?"
    }
}

fn connect_postgres(url: &str) -> anyhow::Result<PgConnection> {
    PgConnection::establish(&with_defaults(url)).map_err(|error| {
        let text = error.to_string();
        let advice = if text.contains("authentication failed") || text.contains("no password") {
            "user and password in database_url are not accepted"
        } else if text.contains("does not exist") {
            "create the database and the role that database_url names (createdb, createuser)"
        } else if text.contains("SSL") || text.contains("certificate") {
            "see sslmode and sslrootcert in database_url"
        } else {
            "is PostgreSQL running where database_url says?"
        };
        // Of an address that it cannot read, libpq shows parts, such as the password.
        if !["connection to server", "could not"].iter().any(|said| text.starts_with(said)) {
            return anyhow!(
                "database_url is no address that PostgreSQL's library reads; in a password, @ : / \
                 ? # and % are written %40 %3A %2F %3F %23 %25"
            );
        }
        anyhow::Error::new(error).context(format!("cannot connect to PostgreSQL: {advice}"))
    })
}

fn refuse_standby(c: &mut PgConnection) -> anyhow::Result<()> {
    #[derive(QueryableByName)]
    struct Setting {
        #[diesel(sql_type = diesel::sql_types::Text)]
        transaction_read_only: String,
    }
    let setting: Setting = diesel::sql_query("SHOW transaction_read_only").get_result(c)?;
    if setting.transaction_read_only == "on" {
        bail!(
            "the database takes no writes: it is a standby, or set to read only; \
             database_url has to name the primary (target_session_attrs=read-write)"
        );
    }
    Ok(())
}

/// Adds what libpq would leave out: without these, a connection to a machine that vanished hangs
/// for hours.
fn with_defaults(url: &str) -> String {
    let mut url = url.to_owned();
    for (key, value) in [
        ("connect_timeout", "5"),
        ("keepalives_idle", "10"),
        ("keepalives_interval", "5"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "15000"),
        ("application_name", "nightshift"),
    ] {
        if !url.contains(&format!("{key}=")) {
            let joint = if url.contains('?') { "&" } else { "?" };
            url.extend([joint, key, "=", value]);
        }
    }
    url
}

fn sqlite_name(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the path of the SQLite file must be UTF-8")
}
