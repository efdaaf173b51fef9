//! One connection of either engine.

use diesel::{connection::SimpleConnection, pg::PgConnection, sqlite::SqliteConnection};

use super::{
    error::{Error, Result},
    postgres,
};

/// A borrowed connection.
pub(super) enum Link<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

impl Link<'_> {
    /// Whether other processes may write, too, and old snapshots keep what is dead.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(_) => true,
        }
    }
}

/// Stamps one body out for both engines; `$c` is the engine's own connection in it.
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

/// The writer's own connection.
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("nothing was done")]
    Undone(#[source] Error),
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

    /// Leaves an SQLite file whole, without a log beside it. (Closing it would do that, too, but
    /// not while a reader's connection is still being closed.)
    pub(super) fn tidy_up(&mut self) {
        let Self::Sqlite(connection) = self else {
            return;
        };
        if let Err(error) = connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!(%error, "the log of the database file stays");
        }
    }

    /// Runs `body` in a transaction and commits it unless it fails. On SQLite no other writer
    /// can come between.
    pub(super) fn transaction<T>(
        &mut self,
        body: impl FnOnce(Link<'_>) -> Result<T>,
    ) -> std::result::Result<T, Failed> {
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
