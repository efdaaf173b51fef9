//! Connects to PostgreSQL, and sets what its sessions need.
//!
//! A database or a role may have defaults (`ALTER DATABASE ... SET`) that were made for other
//! programs. So this program sets what its statements rely on. Each transaction sets what it must
//! have, since behind a pooler the session may be another one. The rest is set once in each session
//! of our own.

use std::sync::Arc;

use anyhow::{anyhow, bail};
use diesel::{
    connection::{CacheSize, SimpleConnection},
    pg::{PgConnection, TransactionBuilder},
    prelude::*,
    r2d2::{Error as PoolError, ManageConnection, R2D2Connection},
    sql_query,
    sql_types::{Bool, Text},
};

use super::guard::{Guard, Patience};
use crate::entropy::Entropy;

/// Settings of our sessions, whatever the database's defaults are. `transaction_timeout` came with
/// PostgreSQL 17.
const SESSION: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SELECT set_config('transaction_timeout', '0', false) FROM pg_settings \
     WHERE name = 'transaction_timeout';";
const LIMITS: &str = "SET statement_timeout = '30s'; SET lock_timeout = '15s'; \
     SET idle_in_transaction_session_timeout = '30s'";
const NO_LIMITS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0";

/// How a session is set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    /// A pooler stands in between, which gives each transaction another connection.
    pub(super) pooled: bool,
}

impl Session {
    pub(super) fn apply(self, c: &mut PgConnection) -> QueryResult<()> {
        self.set(c, LIMITS)
    }

    /// For work that may take hours.
    pub(super) fn apply_without_limits(self, c: &mut PgConnection) -> QueryResult<()> {
        self.set(c, NO_LIMITS)
    }

    fn set(self, c: &mut PgConnection, limits: &str) -> QueryResult<()> {
        if self.pooled {
            // A statement that one connection has prepared is not known to the next one, and a
            // setting would stay for the next user of the connection.
            c.set_prepared_statement_cache_size(CacheSize::Disabled);
            return Ok(());
        }
        c.batch_execute(&format!("{SESSION} {limits}"))
    }
}

/// A transaction in which each statement sees what was committed before it. So a statement after a
/// wait for a lock sees what the lock was waiting for; at a stricter level it would fail.
pub(super) fn transaction(c: &mut PgConnection) -> TransactionBuilder<'_, PgConnection> {
    c.build_transaction().read_committed()
}

/// Makes the readers' connections.
pub(super) struct Manager {
    pub(super) url: String,
    pub(super) session: Session,
    pub(super) guard: Arc<Guard>,
}

impl ManageConnection for Manager {
    type Connection = PgConnection;
    type Error = PoolError;

    fn connect(&self) -> Result<PgConnection, PoolError> {
        let url = with_defaults(&self.url);
        let connected = self.guard.connect(&url, "reader", Patience::Statement);
        let mut c = connected.map_err(PoolError::ConnectionError)?;
        self.session.apply(&mut c).map_err(PoolError::QueryError)?;
        Ok(c)
    }

    fn is_valid(&self, c: &mut PgConnection) -> Result<(), PoolError> {
        c.ping().map_err(PoolError::QueryError)
    }

    fn has_broken(&self, c: &mut PgConnection) -> bool {
        std::thread::panicking() || c.is_broken()
    }
}

pub(super) fn connect(
    url: &str,
    guard: &Guard,
    name: &'static str,
    patience: Patience,
) -> anyhow::Result<PgConnection> {
    guard.connect(&with_defaults(url), name, patience).map_err(|error| {
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
        // If libpq cannot read an address, its error shows parts of it, such as the password.
        if !["connection to server", "could not"].iter().any(|said| text.starts_with(said)) {
            return anyhow!(
                "database_url is no address that PostgreSQL's library reads; in a password, @ : / \
                 ? # and % are written %40 %3A %2F %3F %23 %25"
            );
        }
        anyhow::Error::new(error).context(format!("cannot connect to PostgreSQL: {advice}"))
    })
}

#[derive(QueryableByName)]
struct About {
    #[diesel(sql_type = Bool)]
    read_only: bool,
    #[diesel(sql_type = Text)]
    encoding: String,
}

/// Refuses a database that cannot be written, or whose encoding cannot hold every text.
pub(super) fn refuse_unusable(c: &mut PgConnection) -> anyhow::Result<()> {
    let about: About = sql_query(
        "SELECT current_setting('transaction_read_only') = 'on' AS read_only, \
         current_setting('server_encoding') AS encoding",
    )
    .get_result(c)?;
    if about.encoding != "UTF8" {
        bail!(
            "the database's encoding is {}, which cannot hold every text: make one with \
             createdb --encoding UTF8 --template template0",
            about.encoding
        );
    }
    if about.read_only {
        bail!(
            "the database takes no writes: it is a standby, or set to read only; \
             database_url has to name the primary (target_session_attrs=read-write)"
        );
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

/// Whether the server gives two connections the same session in turn, so that the second finds a
/// setting of the first. Other clients may come in between, so that a busy pooler can be missed.
pub(super) fn is_pooled(url: &str, guard: &Guard) -> anyhow::Result<bool> {
    let word = Entropy::from_system().uuid().simple().to_string();
    let open = || connect(url, guard, "visitor", Patience::Prompt);
    let (mut first, mut second) = (open()?, open()?);
    for c in [&mut first, &mut second] {
        c.set_prepared_statement_cache_size(CacheSize::Disabled);
    }
    first.batch_execute(&format!("SET nightshift.pooled = '{word}'"))?;
    let found: Answer =
        sql_query("SELECT coalesce(current_setting('nightshift.pooled', true), '') = $1 AS yes")
            .bind::<Text, _>(word)
            .get_result(&mut second)?;
    first.batch_execute("RESET nightshift.pooled")?;
    Ok(found.yes)
}

/// The warning for an operator about a pooler that the settings do not mention.
pub const UNSAID_POOLER: &str = "database_url leads to a pooler that gives each transaction \
     another connection, such as PgBouncer in transaction mode: set database_pooled = true, and \
     database_listen_url to PostgreSQL's own address";

/// Adds parameters that libpq would leave out. Without them, a connection to a machine that has
/// vanished hangs for hours.
pub(super) fn with_defaults(url: &str) -> String {
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
