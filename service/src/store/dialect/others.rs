//! The facts that a process on PostgreSQL needs about others that write to the same database. On
//! SQLite there are none.

use std::collections::BTreeMap;

use diesel::{
    pg::PgConnection,
    prelude::*,
    sql_query,
    sql_types::{Array, BigInt, SmallInt, Text},
};

use super::{Number, ROUTING_LOCK};
use crate::{
    domain::executor::ExecutorId,
    store::{
        cached::FewTexts,
        error::Result,
        floors::{REWINDS_KEPT_MICROS, Running},
        link::Link,
    },
};

/// The age, in microseconds, that is assumed of a transaction whose start is hidden because its
/// session has another role. No transaction of this program takes longer.
const AGE_UNKNOWN: i64 = 60 * 1_000_000;

/// How long ago, in microseconds, the oldest transaction of others began that is still writing; 0
/// if there is none. All writers hold the routing lock from start to end, by which they are found.
/// A transaction that began earlier has ended, and the next statement sees what it has written.
pub(in crate::store) fn oldest_writer_age(link: &mut Link<'_>) -> Result<i64> {
    let Link::Postgres(c) = link else {
        return Ok(0);
    };
    let (high, low) = (ROUTING_LOCK >> 32, ROUTING_LOCK & 0xffff_ffff);
    let oldest: Number = sql_query(format!(
        "SELECT coalesce(max(coalesce((extract(epoch FROM clock_timestamp() - a.xact_start) \
         * 1000000)::bigint, {AGE_UNKNOWN})), 0) AS number \
         FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.classid = {high} AND l.objid = {low} \
         AND l.objsubid = 1 AND l.granted AND l.pid <> pg_backend_pid() \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ))
    .cached()
    .get_result(*c)?;
    Ok(oldest.number)
}

/// A place at which another process has put a task that was due before its transaction began.
#[derive(QueryableByName)]
pub(in crate::store) struct Rewind {
    #[diesel(sql_type = BigInt)]
    pub(in crate::store) id: i64,
    #[diesel(sql_type = BigInt)]
    pub(in crate::store) executor_id: i64,
    #[diesel(sql_type = SmallInt)]
    pub(in crate::store) priority: i16,
    #[diesel(sql_type = BigInt)]
    pub(in crate::store) due_at: i64,
}

/// The rewinds of transactions that began at `since` or later.
pub(in crate::store) fn rewinds(link: &mut Link<'_>, since: i64) -> Result<Vec<Rewind>> {
    let Link::Postgres(c) = link else {
        return Ok(Vec::new());
    };
    let query = sql_query("SELECT id, executor_id, priority, due_at FROM rewinds WHERE at >= $1");
    Ok(query.bind::<BigInt, _>(since).cached().load(*c)?)
}

#[derive(QueryableByName)]
struct Written {
    #[diesel(sql_type = BigInt)]
    #[expect(dead_code, reason = "returned, so that the statement can be kept compiled")]
    id: i64,
}

/// Writes where this transaction has put tasks that were due before it began.
pub(in crate::store) fn insert_rewinds(
    link: &mut Link<'_>,
    at: i64,
    places: &BTreeMap<(ExecutorId, i16), i64>,
) -> Result<()> {
    let Link::Postgres(c) = link else {
        return Ok(());
    };
    if places.is_empty() {
        return Ok(());
    }
    let executors: Vec<i64> = places.keys().map(|(executor, _)| executor.0).collect();
    let priorities: Vec<i16> = places.keys().map(|(_, priority)| *priority).collect();
    let due_ats: Vec<i64> = places.values().copied().collect();
    sql_query(
        "INSERT INTO rewinds (at, executor_id, priority, due_at) \
         SELECT $1, * FROM UNNEST($2, $3, $4) RETURNING id",
    )
    .bind::<BigInt, _>(at)
    .bind::<Array<BigInt>, _>(executors)
    .bind::<Array<SmallInt>, _>(priorities)
    .bind::<Array<BigInt>, _>(due_ats)
    .cached()
    .load::<Written>(*c)?;
    Ok(())
}

/// Deletes rewinds that no process reads any more, and returns the time up to which that was done.
/// None is older than `trimmed`, as the caller knows.
pub(in crate::store) fn trim_rewinds(c: &mut PgConnection, trimmed: i64, now: i64) -> Result<i64> {
    let until = now.saturating_sub(REWINDS_KEPT_MICROS);
    sql_query("DELETE FROM rewinds WHERE at >= $1 AND at < $2")
        .bind::<BigInt, _>(trimmed)
        .bind::<BigInt, _>(until)
        .execute(c)?;
    Ok(until)
}

/// A task that runs.
#[derive(QueryableByName)]
pub(in crate::store) struct RunningRow {
    #[diesel(sql_type = BigInt)]
    pub(in crate::store) seq: i64,
    #[diesel(sql_type = BigInt)]
    pub(in crate::store) executor_id: i64,
    #[diesel(sql_type = Text)]
    pub(in crate::store) queue_name: String,
}

/// The running tasks of limited executors and queues: the tasks of the last count that still run,
/// and those that were started since. The claim lock keeps other processes from starting any
/// meanwhile.
pub(in crate::store) fn running(c: &mut PgConnection, before: &Running) -> Result<Vec<RunningRow>> {
    let (executors, queues) = &before.limited;
    Ok(sql_query(RUNNING)
        .bind::<BigInt, _>(before.since)
        .bind::<Array<BigInt>, _>(&before.seqs)
        .bind::<Array<BigInt>, _>(executors)
        .bind::<Array<Text>, _>(queues)
        .cached()
        .load(c)?)
}

/// `OFFSET 0` makes the planner look up each known task by itself. Without it, the planner may
/// search for them among the entries of all that has ever run.
const RUNNING: &str = "SELECT seq, executor_id, queue_name FROM tasks \
     WHERE stage = 2 AND last_attempted_at >= $1 AND executor_id IS NOT NULL \
     AND (executor_id = ANY ($3) OR queue_name = ANY ($4)) \
     UNION ALL \
     SELECT known.seq, known.executor_id, known.queue_name FROM UNNEST($2) AS before (seq) \
     CROSS JOIN LATERAL (SELECT t.seq, t.stage, t.executor_id, t.queue_name, t.last_attempted_at \
     FROM tasks AS t WHERE t.seq = before.seq OFFSET 0) AS known \
     WHERE known.stage = 2 AND known.last_attempted_at < $1";
