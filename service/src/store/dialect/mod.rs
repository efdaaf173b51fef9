//! What the two engines cannot say alike, each pair under one contract.

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

/// The numbers of PostgreSQL's advisory locks, `NSHT` and a counter; each is held until its
/// transaction ends, so it goes with a process that dies.
pub(super) const ROUTING_LOCK: i64 = 0x4e53_4854_0001;
const CLAIM_LOCK: i64 = 0x4e53_4854_0002;
const SWEEP_LOCK: i64 = 0x4e53_4854_0003;
pub(super) const MIGRATION_LOCK: i64 = 0x4e53_4854_0004;
const PRUNE_LOCK: i64 = 0x4e53_4854_0005;

/// How long PostgreSQL lets one statement run, wait for a lock, and lets a process that fell
/// asleep in the middle of a transaction keep its locks. And a commit is on the disk before it is
/// answered, whatever the server's or the database's default is (`remote_apply`, say, stays).
const TERMS: &str = "SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '15s'; \
                     SET LOCAL idle_in_transaction_session_timeout = '5s'; \
                     SELECT set_config('synchronous_commit', 'on', true) \
                     WHERE current_setting('synchronous_commit') = 'off';";

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Reserves `count` places in the order of enqueuing and returns them, ascending.
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

/// The last place that was reserved.
pub(super) fn last_seq(link: &mut Link<'_>) -> Result<i64> {
    let last: Number = match link {
        Link::Sqlite(c) => sql_query("SELECT last AS number FROM task_seqs").get_result(*c)?,
        Link::Postgres(c) => {
            sql_query("SELECT last_value AS number FROM task_seqs").get_result(*c)?
        }
    };
    Ok(last.number)
}

/// What a writing transaction learns as it begins.
pub(super) struct Entered {
    /// The version of executors and queues.
    pub(super) version: i64,
    /// How often stored times were moved because the clock was set.
    pub(super) steps: i64,
    /// The database's own time in microseconds, where it decides.
    pub(super) now: Option<i64>,
}

/// Begins to write. Who serves which task does not change until the transaction ends, unless by
/// itself, and then it is the only one that writes.
pub(super) fn lock_routing(link: &mut Link<'_>, changes_routing: bool) -> Result<()> {
    // The only writer of a file anyhow.
    let Link::Postgres(c) = link else { return Ok(()) };
    let shared = if changes_routing { "" } else { "_shared" };
    c.batch_execute(&format!("{TERMS} SELECT pg_advisory_xact_lock{shared}({ROUTING_LOCK})"))?;
    Ok(())
}

/// Says what holds as a transaction begins: in a statement of its own, so that it sees what
/// [`lock_routing`] was waiting for.
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

/// Waits until no other process claims, so that what runs can be counted against its limits.
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

/// Whether nobody else is just sweeping, which one process is to do for all.
pub(super) fn try_lock_sweep(link: &mut Link<'_>) -> Result<bool> {
    try_lock(link, SWEEP_LOCK)
}

/// Whether nobody else is just pruning, which one process is to do for all.
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

/// Whether any version of this program has made its tables.
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

/// Waits until no transaction is left that has written events and is not yet seen by all, so that
/// no event comes later in a place before the last one. It is to be the first of its transaction.
pub(super) fn settle_events(link: &mut Link<'_>) -> Result<()> {
    match link {
        // A writer that is not done has no place yet.
        Link::Sqlite(_) => {}
        Link::Postgres(c) => {
            c.batch_execute("SET LOCAL lock_timeout = '5s'; LOCK TABLE events IN SHARE MODE")?;
        }
    }
    Ok(())
}

/// The last event after `trimmed` but those that together have at most so many bytes.
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

/// The tasks with these places or ids, locked until this transaction ends; in the order of their
/// places, so that two transactions never wait for each other.
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

/// The tasks with these places, locked until this transaction ends, unless somebody else has
/// just locked them.
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

/// When the first task of a stage ended that is still there; it is known that none ended before
/// `floor`.
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

/// Deletes the tasks of a stage that ended first, up to `limit`, and only what ended from `first`
/// to `until`, and returns how many. Inputs, results, errors, labels and logs go with them.
pub(super) fn delete_ended(
    link: &mut Link<'_>,
    stage: Stage,
    (first, until): (i64, i64),
    limit: u64,
) -> Result<u64> {
    // Somebody may just retry one of them.
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
