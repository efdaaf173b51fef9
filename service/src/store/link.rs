//! A connection to either engine, and the macro that runs one body on both.

use diesel::{connection::SimpleConnection, pg::PgConnection, sqlite::SqliteConnection};

use super::{
    error::{Error, Result},
    postgres,
};

/// A borrowed connection to either engine.
pub(super) enum Link<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

impl Link<'_> {
    /// Whether other processes may write to the same database. In such a database old snapshots
    /// keep dead entries in the indexes.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(_) => true,
        }
    }
}

/// Expands one body for both engines; in the body, `$c` is the connection of the engine at hand.
macro_rules! on_engine {
    ($link:expr, $c:ident => $body:expr) => {
        match $link {
            $crate::store::link::Link::Sqlite($c) => {
                let $c: &mut diesel::sqlite::SqliteConnection = $c;
                $body
            }
            $crate::store::link::Link::Postgres($c) => {
                let $c: &mut diesel::pg::PgConnection = $c;
                $body
            }
        }
    };
}
pub(super) use on_engine;

/// An owned connection to either engine.
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Nothing was stored, so it may be tried again.
    #[error("nothing was done")]
    Undone(#[source] Error),
    /// The commit was sent, and its answer was lost.
    #[error("nobody knows whether it was committed")]
    Unknown(#[source] Error),
}

impl Connection {
    pub(super) fn link(&mut self) -> Link<'_> {
        match self {
            Self::Sqlite(c) => Link::Sqlite(c),
            Self::Postgres(c) => Link::Postgres(c),
        }
    }

    /// Moves the log of an SQLite file into the file, so that nothing lies beside it. Closing the
    /// connection does that, too, but not while a reader's connection is still being closed.
    pub(super) fn tidy_up(&mut self) {
        let Self::Sqlite(connection) = self else {
            return;
        };
        if let Err(error) = connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!(%error, "the log of the database file stays");
        }
    }

    /// Runs `body` in a transaction and commits it unless `body` fails. On SQLite the transaction
    /// takes the write lock first, so that no other writer comes in between.
    pub(super) fn transaction<T>(
        &mut self,
        body: impl FnOnce(Link<'_>) -> Result<T>,
    ) -> std::result::Result<T, Failed> {
        // An error after `body` was complete comes from the commit, whose outcome is then unknown.
        let mut complete = false;
        let body = |link: Link<'_>| {
            let value = body(link)?;
            complete = true;
            Ok(value)
        };
        let ended: Result<T> = match self {
            Self::Sqlite(c) => c.immediate_transaction(|c| body(Link::Sqlite(c))),
            Self::Postgres(c) => postgres::transaction(c).run(|c| body(Link::Postgres(c))),
        };
        ended.map_err(|error| if complete { Failed::Unknown(error) } else { Failed::Undone(error) })
    }
}
