//! What the two engines cannot say alike, each pair under one contract.

pub(super) mod bulk;

use diesel::{
    connection::SimpleConnection,
    expression::SqlLiteral,
    pg::PgConnection,
    prelude::*,
    sql_query,
    sql_types::{Array, BigInt, Bool, SmallInt, Text},
};

use super::{
    cached::FewTexts,
    error::{Error, Result},
    link::{Link, on_engine},
    rows::TaskRow,
    schema::{routing, stage, tasks},
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
    /// The database's own time in microseconds, where it decides.
    pub(super) now: Option<i64>,
}

/// Begins to write. Who serves which task does not change until the transaction ends, unless by
/// itself, and then it is the only one that writes.
pub(super) fn enter(link: &mut Link<'_>, changes_routing: bool) -> Result<Entered> {
    match link {
        // The only writer anyhow.
        Link::Sqlite(c) => {
            let version = routing::table.select(routing::version).first(*c)?;
            Ok(Entered { version, now: None })
        }
        Link::Postgres(c) => {
            let shared = if changes_routing { "" } else { "_shared" };
            c.batch_execute(&format!(
                "{TERMS} SELECT pg_advisory_xact_lock{shared}({ROUTING_LOCK})"
            ))?;
            // A statement of its own, so that it sees what the lock was waiting for.
            let entered: EnteredRow = sql_query(
                "SELECT version, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now \
                 FROM routing",
            )
            .cached()
            .get_result(*c)?;
            Ok(Entered { version: entered.version, now: Some(entered.now) })
        }
    }
}

#[derive(QueryableByName)]
struct EnteredRow {
    #[diesel(sql_type = BigInt)]
    version: i64,
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

/// The last event but those that together have at most so many bytes.
pub(super) fn seq_of_bytes(link: &mut Link<'_>, bytes_max: i64) -> Result<Option<i64>> {
    let query = sql_query(
        "SELECT seq AS number FROM (SELECT seq, sum(bytes) OVER (ORDER BY seq DESC) AS total \
         FROM events) AS sums WHERE total > $1 ORDER BY seq DESC LIMIT 1",
    )
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

/// Deletes the tasks of a stage that ended first, up to `limit` and only what ended by `until`,
/// and returns how many. Inputs, results, errors, labels and logs go with them.
pub(super) fn delete_ended(
    link: &mut Link<'_>,
    stage: Stage,
    until: i64,
    limit: u64,
) -> Result<u64> {
    // Somebody may just retry one of them.
    let free = if let Link::Postgres(_) = link { "FOR UPDATE SKIP LOCKED" } else { "" };
    let delete = sql_query(format!(
        "DELETE FROM tasks WHERE seq IN (SELECT seq FROM tasks WHERE stage = {} \
         AND finished_at <= $1 ORDER BY finished_at LIMIT $2 {free})",
        stage as i16
    ))
    .bind::<BigInt, _>(until)
    .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX));
    let deleted = on_engine!(link, c => delete.execute(c))?;
    Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
}

/// The first due task, or one of the first, of a lane: an executor's part of a queue.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub(super) struct Head {
    #[diesel(sql_type = Text)]
    pub(super) queue_name: String,
    #[diesel(sql_type = SmallInt)]
    pub(super) priority: i16,
    #[diesel(sql_type = BigInt)]
    pub(super) due_at: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) seq: i64,
}

/// The queues in which an executor has due tasks, found by one step in the index for each.
pub(super) fn lanes(link: &mut Link<'_>, executor_id: i64, limit: i64) -> Result<Vec<String>> {
    let lanes = sql_query(LANES).bind::<BigInt, _>(executor_id).bind::<BigInt, _>(limit).cached();
    let lanes: Vec<Lane> = on_engine!(link, c => lanes.load(c))?;
    Ok(lanes.into_iter().map(|lane| lane.queue_name).collect())
}

const LANES: &str = "WITH RECURSIVE lanes (queue_name) AS (\
     SELECT min(queue_name) FROM tasks WHERE stage = 1 AND executor_id = $1 \
     UNION ALL \
     SELECT (SELECT min(tasks.queue_name) FROM tasks WHERE stage = 1 AND executor_id = $1 \
     AND tasks.queue_name > lanes.queue_name) FROM lanes WHERE lanes.queue_name IS NOT NULL) \
     SELECT queue_name FROM lanes WHERE queue_name IS NOT NULL LIMIT $2";

#[derive(QueryableByName)]
struct Lane {
    #[diesel(sql_type = Text)]
    queue_name: String,
}

/// The first `limit` due tasks of each of an executor's lanes, lane by lane in their order.
pub(super) fn heads(
    link: &mut Link<'_>,
    executor_id: i64,
    lanes: &[String],
    limit: i64,
) -> Result<Vec<Head>> {
    match link {
        Link::Sqlite(c) => {
            let mut heads = Vec::new();
            for queue_name in lanes {
                let lane: Vec<(i16, i64, i64)> =
                    lane(executor_id, queue_name, limit).cached().load(*c)?;
                heads.extend(lane.into_iter().map(|(priority, due_at, seq)| Head {
                    queue_name: queue_name.clone(),
                    priority,
                    due_at,
                    seq,
                }));
            }
            Ok(heads)
        }
        Link::Postgres(c) => Ok(sql_query(HEADS)
            .bind::<Array<Text>, _>(lanes)
            .bind::<BigInt, _>(executor_id)
            .bind::<BigInt, _>(limit)
            .cached()
            .load(*c)?),
    }
}

const HEADS: &str = "SELECT lane.queue_name, head.priority, head.due_at, head.seq \
     FROM UNNEST($1) WITH ORDINALITY AS lane (queue_name, number) \
     CROSS JOIN LATERAL (SELECT priority, due_at, seq FROM tasks \
     WHERE stage = 1 AND executor_id = $2 AND queue_name = lane.queue_name \
     ORDER BY priority DESC, due_at, seq LIMIT $3) AS head \
     ORDER BY lane.number, head.priority DESC, head.due_at, head.seq";

#[diesel::dsl::auto_type(no_type_alias)]
fn lane<'a>(executor_id: i64, queue_name: &'a str, limit: i64) -> _ {
    let is_available: SqlLiteral<Bool> = stage::is_available();
    tasks::table
        .filter(is_available)
        .filter(tasks::executor_id.eq(executor_id))
        .filter(tasks::queue_name.eq(queue_name))
        .order((tasks::priority.desc(), tasks::due_at, tasks::seq))
        .limit(limit)
        .select((tasks::priority, tasks::due_at, tasks::seq))
}

#[cfg(test)]
pub(super) mod tests {
    use diesel::{connection::SimpleConnection, debug_query, prelude::*, sql_query};

    use super::{LANES, lane};

    #[derive(QueryableByName)]
    struct Step {
        #[diesel(sql_type = diesel::sql_types::Text)]
        detail: String,
    }

    /// How SQLite carries a query out.
    pub(in crate::store) fn plan(query: &str) -> Vec<String> {
        let mut c = SqliteConnection::establish(":memory:").unwrap();
        for migration in [
            include_str!("../../../../migrations/sqlite/0001_tasks/up.sql"),
            include_str!("../../../../migrations/sqlite/0002_queues_and_workers/up.sql"),
            include_str!("../../../../migrations/sqlite/0004_events/up.sql"),
        ] {
            c.batch_execute(migration).unwrap();
        }
        let steps: Vec<Step> =
            sql_query(format!("EXPLAIN QUERY PLAN {query}")).load(&mut c).unwrap();
        steps.into_iter().map(|step| step.detail).collect()
    }

    #[test]
    fn b82_c46_a_claim_reads_what_it_claims_and_nothing_else() {
        let query = lane(1, "default", 10);
        let text = debug_query::<diesel::sqlite::Sqlite, _>(&query).to_string();
        // One step: no scan of the table, no sorting, and no look at the rows themselves.
        assert_eq!(
            plan(text.split(" -- binds").next().unwrap()),
            ["SEARCH tasks USING COVERING INDEX tasks_available (executor_id=? AND queue_name=?)"]
        );
    }

    #[test]
    fn b82_lanes_are_found_by_steps_in_the_index() {
        let plan = plan(LANES);
        let searches: Vec<&String> = plan.iter().filter(|step| step.contains("tasks")).collect();
        assert_eq!(searches.len(), 2, "{plan:?}");
        for search in searches {
            assert!(
                search.starts_with("SEARCH tasks USING COVERING INDEX tasks_available"),
                "{search}"
            );
        }
    }
}
