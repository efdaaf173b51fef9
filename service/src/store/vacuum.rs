//! Vacuums PostgreSQL's table of tasks when it has many dead rows.
//!
//! A claim begins to look where the last tasks were claimed, and has to step over the dead rows
//! that they have left. Autovacuum comes once a minute at the earliest. In a minute a busy service
//! leaves some hundred thousand of them, over which each claim would step.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Nullable},
};

use super::{
    error::{Error, Result},
    link::Connection,
};

/// How often to look.
const PERIOD: Duration = Duration::from_secs(10);
/// With fewer dead rows, a vacuum is not worth its cost.
const DEAD_ROWS_MIN: i64 = 20_000;
/// Rounds take at most about 1 / `SHARE` of the time.
const SHARE: u32 = 10;

pub(super) struct Vacuum {
    pub(super) connect: Box<dyn Fn() -> anyhow::Result<Connection> + Send>,
    /// Closed when the writer is gone.
    pub(super) closed: Receiver<()>,
}

#[derive(QueryableByName)]
struct DeadRows {
    #[diesel(sql_type = Nullable<BigInt>)]
    number: Option<i64>,
}

impl Vacuum {
    pub(super) fn run(self) {
        let mut pause = PERIOD;
        loop {
            match self.closed.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            let start = Instant::now();
            if let Err(error) = self.round() {
                tracing::debug!(error = &error as &dyn std::error::Error, "no vacuum this time");
            }
            pause = PERIOD.max(start.elapsed() * SHARE);
        }
    }

    /// Vacuums if there are enough dead rows. Of several processes the first does it: the others
    /// find the table locked, and skip it.
    fn round(&self) -> Result<()> {
        let connection = (self.connect)().map_err(|error| Error::Unavailable(error.into()))?;
        let Connection::Postgres(mut c) = connection else {
            return Ok(());
        };
        let dead: DeadRows = sql_query(
            "SELECT n_dead_tup AS number FROM pg_stat_user_tables WHERE relid = 'tasks'::regclass",
        )
        .get_result(&mut c)?;
        if dead.number.unwrap_or(0) >= DEAD_ROWS_MIN {
            sql_query("VACUUM (SKIP_LOCKED, TRUNCATE OFF) tasks").execute(&mut c)?;
        }
        Ok(())
    }
}
