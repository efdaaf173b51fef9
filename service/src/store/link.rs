//! One connection of either engine.

use diesel::{Connection as _, pg::PgConnection, sqlite::SqliteConnection};

use super::error::{Error, Result};

/// A borrowed connection.
pub(super) enum Link<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
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

impl Connection {
    /// Runs `body` in a transaction that no other writer can come between, and commits it unless
    /// it fails.
    pub(super) fn transaction<T>(&mut self, body: impl FnOnce(Link<'_>) -> Result<T>) -> Result<T> {
        match self {
            Self::Sqlite(c) => c.immediate_transaction(|c| body(Link::Sqlite(c))),
            Self::Postgres(c) => c.transaction::<_, Error, _>(|c| body(Link::Postgres(c))),
        }
    }
}
