//! The statements that the two engines cannot share: each function has one contract, and a body for
//! each engine.

pub(super) mod bulk;
mod heads;
mod others;

#[cfg(test)]
pub(super) use self::heads::tests;
pub(super) use self::{
    heads::{Head, priorities, queue_heads, whole_heads},
    others::{insert_rewinds, oldest_writer_age, rewinds, running, trim_rewinds},
};

use diesel::{
    connection::SimpleConnection,
    pg::PgConnection,
    prelude::*,
    sql_query,
    sql_types::{BigInt, Bool},
};

use super::{
    cached::FewTexts,
    error::{Error, Result},
    link::{Link, on_engine},
    rows::TaskRow,
    schema::{routing, tasks},
};
use crate::domain::state::Stage;

/// The numbers of PostgreSQL's advisory locks: `NSHT` and a counter. A service holds each of them
/// until its transaction ends, so that the lock of a process that dies goes with it.
pub(super) const ROUTING_LOCK: i64 = 0x4e53_4854_0001;
const CLAIM_LOCK: i64 = 0x4e53_4854_0002;
const SWEEP_LOCK: i64 = 0x4e53_4854_0003;
pub(super) const MIGRATION_LOCK: i64 = 0x4e53_4854_0004;
const PRUNE_LOCK: i64 = 0x4e53_4854_0005;

/// The settings of each writing transaction on PostgreSQL: how long a statement may run or wait for
/// a lock, and for how long a process that falls asleep in the middle of its transaction keeps its
/// locks. A commit is on the disk before it is answered, even if the default of the server or the
/// database is `off`. Stricter values, such as `remote_apply`, stay.
const TERMS: &str = "SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '15s'; \
                     SET LOCAL idle_in_transaction_session_timeout = '5s'; \
                     SELECT set_config('synchronous_commit', 'on', true) \
                     WHERE current_setting('synchronous_commit') = 'off';";

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Reserves `count` numbers in the order of enqueuing (`seq`), and returns them in ascending order.
pub(super) fn reserve_seqs(link: &mut Link<'_>, count: usize) -> Result<Vec<i64>> {
    let count =
        i64::try_from(count).map_err(|_error| Error::Corrupt("an endless batch".to_owned()))?;
    match link {
        Link::Sqlite(c) => {
            let last: Number =
                sql_query("UPDATE task_seqs SET last = last + ? RETURNING last AS number")
                    .bind::<BigInt, _>(count)
                    .cached()
                    .get_result(*c)?;
            Ok((last.number - count + 1..=last.number).collect())
        }
        Link::Postgres(c) => {
            let mut seqs: Vec<Number> =
                sql_query("SELECT nextval('task_seqs') AS number FROM generate_series(1, $1)")
                    .bind::<BigInt, _>(count)
                    .cached()
                    .load(*c)?;
            seqs.sort_by_key(|seq| seq.number);
            Ok(seqs.into_iter().map(|seq| seq.number).collect())
        }
    }
}

/// The last `seq` that was reserved.
pub(super) fn last_seq(link: &mut Link<'_>) -> Result<i64> {
    let last: Number = match link {
        Link::Sqlite(c) => sql_query("SELECT last AS number FROM task_seqs").get_result(*c)?,
        Link::Postgres(c) => {
            sql_query("SELECT last_value AS number FROM task_seqs").get_result(*c)?
        }
    };
    Ok(last.number)
}

/// Facts that a writing transaction reads as it begins.
pub(super) struct Entered {
    /// The version of executors and queues, which grows with each change of them.
    pub(super) version: i64,
    /// How often stored times were moved because the clock was set.
    pub(super) steps: i64,
    /// The time of the database in microseconds, on the engine whose clock decides.
    pub(super) now: Option<i64>,
}

/// Begins to write by taking the routing lock. Until the transaction ends, no other one changes
/// which executor serves which task. A transaction that changes that itself takes the lock
/// exclusively, and is then the only one that writes.
pub(super) fn lock_routing(link: &mut Link<'_>, changes_routing: bool) -> Result<()> {
    // An SQLite file has one writer anyway.
    let Link::Postgres(c) = link else { return Ok(()) };
    let shared = if changes_routing { "" } else { "_shared" };
    c.batch_execute(&format!("{TERMS} SELECT pg_advisory_xact_lock{shared}({ROUTING_LOCK})"))?;
    Ok(())
}

/// Reads version, clock steps and time as a transaction begins. On PostgreSQL it has to be a
/// statement of its own after [`lock_routing`]: a statement does not see what was committed while
/// it waited for a lock.
pub(super) fn enter(link: &mut Link<'_>) -> Result<Entered> {
    match link {
        Link::Sqlite(c) => {
            let entered = routing::table.select((routing::version, routing::clock_steps));
            let (version, steps) = entered.first(*c)?;
            Ok(Entered { version, steps, now: None })
        }
        Link::Postgres(c) => {
            let entered: EnteredRow = sql_query(
                "SELECT version, clock_steps AS steps, \
                 (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now FROM routing",
            )
            .cached()
            .get_result(*c)?;
            let EnteredRow { version, steps, now } = entered;
            Ok(Entered { version, steps, now: Some(now) })
        }
    }
}

#[derive(QueryableByName)]
struct EnteredRow {
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = BigInt)]
    steps: i64,
    #[diesel(sql_type = BigInt)]
    now: i64,
}

/// Waits until no other process claims, so that running tasks can be counted against their limits.
pub(super) fn lock_claims(link: &mut Link<'_>) -> Result<()> {
    match link {
        Link::Sqlite(_) => Ok(()),
        Link::Postgres(c) => {
            c.batch_execute(&format!("SELECT pg_advisory_xact_lock({CLAIM_LOCK})"))?;
            Ok(())
        }
    }
}

/// Waits until no other process brings the schema up to date.
pub(super) fn lock_migrations(c: &mut PgConnection) -> QueryResult<()> {
    c.batch_execute(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
}

/// Takes the sweep lock, unless another process has it: one process sweeps for all.
pub(super) fn try_lock_sweep(link: &mut Link<'_>) -> Result<bool> {
    try_lock(link, SWEEP_LOCK)
}

/// Takes the prune lock, unless another process has it: one process prunes for all.
pub(super) fn try_lock_prune(link: &mut Link<'_>) -> Result<bool> {
    try_lock(link, PRUNE_LOCK)
}

fn try_lock(link: &mut Link<'_>, number: i64) -> Result<bool> {
    match link {
        Link::Sqlite(_) => Ok(true),
        Link::Postgres(c) => {
            let got: Answer = sql_query("SELECT pg_try_advisory_xact_lock($1) AS yes")
                .bind::<BigInt, _>(number)
                .get_result(*c)?;
            Ok(got.yes)
        }
    }
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

/// Whether the tables of this program are there, of whatever version.
pub(super) fn has_schema(link: &mut Link<'_>) -> Result<bool> {
    let answer: Answer = match link {
        Link::Sqlite(c) => sql_query(
            "SELECT count(*) > 0 AS yes FROM sqlite_master \
             WHERE name = '__diesel_schema_migrations'",
        )
        .get_result(*c)?,
        Link::Postgres(c) => {
            sql_query("SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS yes")
                .get_result(*c)?
        }
    };
    Ok(answer.yes)
}

/// Waits for all open transactions that have written events. Afterwards no event can appear with a
/// lower `seq` than the last one. It has to be the first statement of its transaction.
pub(super) fn settle_events(link: &mut Link<'_>) -> Result<()> {
    match link {
        // Readers of SQLite see the events of one writer, in the order of its commits.
        Link::Sqlite(_) => {}
        Link::Postgres(c) => {
            // Each INSERT takes a lock that conflicts with SHARE, and keeps it until its commit.
            c.batch_execute("SET LOCAL lock_timeout = '5s'; LOCK TABLE events IN SHARE MODE")?;
        }
    }
    Ok(())
}

/// The `seq` up to which events have to be deleted so that the rest has at most `bytes_max` bytes.
/// Only events after `trimmed` are looked at. `None` if there is nothing to delete.
pub(super) fn seq_of_bytes(
    link: &mut Link<'_>,
    trimmed: i64,
    bytes_max: i64,
) -> Result<Option<i64>> {
    let query = sql_query(
        "SELECT seq AS number FROM (SELECT seq, sum(bytes) OVER (ORDER BY seq DESC) AS total \
         FROM events WHERE seq > $1) AS sums WHERE total > $2 ORDER BY seq DESC LIMIT 1",
    )
    .bind::<BigInt, _>(trimmed)
    .bind::<BigInt, _>(bytes_max);
    let found: Option<Number> = on_engine!(link, c => query.get_result(c).optional())?;
    Ok(found.map(|row| row.number))
}

/// Reads tasks by `seq` or id, and locks them until the transaction ends. Rows are locked in the
/// order of `seq`, so that two transactions never wait for each other.
pub(super) fn lock_tasks(
    link: &mut Link<'_>,
    seqs: &[i64],
    ids: &[Vec<u8>],
) -> Result<Vec<TaskRow>> {
    match link {
        Link::Sqlite(c) => {
            let mut rows = Vec::with_capacity(seqs.len() + ids.len());
            for seq in seqs {
                let row = tasks::table.find(seq).select(TaskRow::as_select());
                rows.extend(row.first(*c).optional()?);
            }
            for id in ids {
                let row = tasks::table.filter(tasks::id.eq(id)).select(TaskRow::as_select());
                rows.extend(row.first(*c).optional()?);
            }
            Ok(rows)
        }
        Link::Postgres(c) => {
            let rows = tasks::table
                .filter(tasks::seq.eq_any(seqs).or(tasks::id.eq_any(ids)))
                .order(tasks::seq)
                .for_update();
            Ok(rows.select(TaskRow::as_select()).load(*c)?)
        }
    }
}

/// Reads tasks by `seq`, and locks them until the transaction ends. Those that another transaction
/// has locked are skipped, so that nothing waits here.
pub(super) fn lock_free_tasks(link: &mut Link<'_>, seqs: &[i64]) -> Result<Vec<TaskRow>> {
    if seqs.is_empty() {
        return Ok(Vec::new());
    }
    match link {
        Link::Sqlite(_) => lock_tasks(link, seqs, &[]),
        Link::Postgres(c) => {
            let rows = tasks::table.filter(tasks::seq.eq_any(seqs)).for_update().skip_locked();
            Ok(rows.select(TaskRow::as_select()).load(*c)?)
        }
    }
}

/// The earliest end of a task of this stage that is still there. None ended before `floor`, as the
/// caller knows, so the look begins there.
pub(super) fn first_ended(link: &mut Link<'_>, stage: Stage, floor: i64) -> Result<Option<i64>> {
    let first = sql_query(format!(
        "SELECT finished_at AS number FROM tasks WHERE stage = {} AND finished_at >= $1 \
         ORDER BY finished_at LIMIT 1",
        stage as i16
    ))
    .bind::<BigInt, _>(floor);
    let first: Option<Number> = on_engine!(link, c => first.get_result(c).optional())?;
    Ok(first.map(|row| row.number))
}

/// Deletes tasks of a stage that ended from `first` to `until`, the earliest first and at most
/// `limit`, and returns how many. Inputs, results, errors, labels and logs are deleted with them.
pub(super) fn delete_ended(
    link: &mut Link<'_>,
    stage: Stage,
    (first, until): (i64, i64),
    limit: u64,
) -> Result<u64> {
    // Another transaction may have locked one of them, for example to retry it.
    let free = if let Link::Postgres(_) = link { "FOR UPDATE SKIP LOCKED" } else { "" };
    let delete = sql_query(format!(
        "DELETE FROM tasks WHERE seq IN (SELECT seq FROM tasks WHERE stage = {} \
         AND finished_at >= $1 AND finished_at <= $2 ORDER BY finished_at LIMIT $3 {free})",
        stage as i16
    ))
    .bind::<BigInt, _>(first)
    .bind::<BigInt, _>(until)
    .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX));
    let deleted = on_engine!(link, c => delete.execute(c))?;
    Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
}
