//! Writes of many rows. SQLite runs in this process, where a cached statement for each row is
//! fastest. For PostgreSQL each statement is a round trip, so one statement takes all rows as
//! arrays. Its text is the same for any number of rows, so that it is compiled once.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    pg::PgConnection,
    prelude::*,
    query_builder::SqlQuery,
    sql_query,
    sql_types::{Array, BigInt, Binary, Bool, Double, Integer, Nullable, SmallInt, Text},
};

use crate::{
    domain::limits::{ERROR_BYTES_PER_TASK_MAX, ERRORS_PER_TASK_MAX},
    store::{
        audit::AuditRow,
        cached::FewTexts,
        error::Result,
        link::{Link, on_engine},
        rows::{ErrorRow, InputRow, LabelRow, LogRow, ResultRow, TaskRow, to_json},
        schema::{
            audit_log, events, task_errors, task_inputs, task_labels, task_logs, task_results,
            tasks,
        },
    },
};

/// Collects one column of all rows.
fn column<'a, R, T>(rows: &'a [R], value: impl FnMut(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// A row that was written. It is returned only because `cached` needs a statement that returns
/// rows.
#[derive(QueryableByName)]
struct Touched {
    #[diesel(sql_type = BigInt)]
    seq: i64,
}

/// Inserts tasks with their inputs and labels.
pub(in crate::store) fn insert_tasks(
    link: &mut Link<'_>,
    tasks: &[TaskRow],
    inputs: &[InputRow<'_>],
    labels: &[LabelRow],
) -> Result<()> {
    match link {
        Link::Sqlite(c) => {
            for row in tasks {
                let insert = diesel::insert_into(tasks::table).values(row);
                insert.returning(tasks::seq).cached().get_result::<i64>(*c)?;
            }
            for row in inputs {
                let insert = diesel::insert_into(task_inputs::table).values(row);
                insert.returning(task_inputs::task_seq).cached().get_result::<i64>(*c)?;
            }
            for row in labels {
                diesel::insert_into(task_labels::table).values(row).execute(*c)?;
            }
        }
        Link::Postgres(c) => {
            insert_task_rows(c, tasks)?;
            insert_inputs(c, inputs)?;
            insert_labels(c, labels)?;
        }
    }
    Ok(())
}

/// Inserts tasks of which no attempt was made yet, so that the other columns are the same for all.
fn insert_task_rows(c: &mut PgConnection, rows: &[TaskRow]) -> Result<()> {
    sql_query(
        "INSERT INTO tasks (seq, id, task_path, queue_name, priority, enqueued_at, expires_at, \
         timeout_us, max_attempts, backoff, unique_key, idempotency_key, stage, executor_id, \
         due_at, attempts, attempts_before, deliveries, worker_ids, detached) \
         SELECT u.*, 0, 0, 0, '[]', FALSE FROM UNNEST($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
         $11, $12, $13, $14, $15) AS u RETURNING seq",
    )
    .bind::<Array<BigInt>, _>(column(rows, |row| row.seq))
    .bind::<Array<Binary>, _>(column(rows, |row| row.id.as_slice()))
    .bind::<Array<Text>, _>(column(rows, |row| row.task_path.as_str()))
    .bind::<Array<Text>, _>(column(rows, |row| row.queue_name.as_str()))
    .bind::<Array<SmallInt>, _>(column(rows, |row| row.priority))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.enqueued_at))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |row| row.expires_at))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |row| row.timeout_us))
    .bind::<Array<Nullable<Integer>>, _>(column(rows, |row| row.max_attempts))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.backoff.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.unique_key.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.idempotency_key.as_deref()))
    .bind::<Array<SmallInt>, _>(column(rows, |row| row.now.stage))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |row| row.now.executor_id))
    .bind::<Array<BigInt>, _>(column(rows, |row| row.now.due_at))
    .cached()
    .load::<Touched>(c)?;
    Ok(())
}

fn insert_inputs(c: &mut PgConnection, rows: &[InputRow<'_>]) -> Result<()> {
    sql_query(
        "INSERT INTO task_inputs (task_seq, args, kwargs, fingerprint, traceparent) \
         SELECT * FROM UNNEST($1, $2, $3, $4, $5) RETURNING task_seq AS seq",
    )
    .bind::<Array<BigInt>, _>(column(rows, |row| row.task_seq))
    .bind::<Array<Text>, _>(column(rows, |row| row.args.as_ref()))
    .bind::<Array<Text>, _>(column(rows, |row| row.kwargs.as_ref()))
    .bind::<Array<Nullable<Binary>>, _>(column(rows, |row| row.fingerprint.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.traceparent))
    .cached()
    .load::<Touched>(c)?;
    Ok(())
}

fn insert_labels(c: &mut PgConnection, rows: &[LabelRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sql_query(
        "INSERT INTO task_labels (task_seq, key, value) SELECT * FROM UNNEST($1, $2, $3) \
         RETURNING task_seq AS seq",
    )
    .bind::<Array<BigInt>, _>(column(rows, |row| row.task_seq))
    .bind::<Array<Text>, _>(column(rows, |row| row.key.as_str()))
    .bind::<Array<Text>, _>(column(rows, |row| row.value.as_str()))
    .cached()
    .load::<Touched>(c)?;
    Ok(())
}

/// Updates the changing columns of rows, and returns how many rows were updated. A row is left as
/// it is if its stage in the database is not the one given with it.
pub(in crate::store) fn save_tasks(link: &mut Link<'_>, rows: &[(&TaskRow, i16)]) -> Result<usize> {
    if rows.is_empty() {
        return Ok(0);
    }
    match link {
        Link::Sqlite(c) => {
            let mut saved = 0;
            for (row, stored) in rows {
                let target = tasks::table.find(row.seq).filter(tasks::stage.eq(*stored));
                let update = diesel::update(target).set(&row.now).returning(tasks::seq);
                saved += update.cached().load::<i64>(*c)?.len();
            }
            Ok(saved)
        }
        Link::Postgres(c) => save_task_rows(c, rows),
    }
}

fn save_task_rows(c: &mut PgConnection, rows: &[(&TaskRow, i16)]) -> Result<usize> {
    Ok(sql_query(
        "UPDATE tasks SET stage = u.stage, executor_id = u.executor_id, due_at = u.due_at, \
         attempts = u.attempts, attempts_before = u.attempts_before, \
         deliveries = u.deliveries, worker_ids = u.worker_ids, \
         lease_secret = u.lease_secret, lease_renewed_at = u.lease_renewed_at, \
         lease_expires_at = u.lease_expires_at, deadline_at = u.deadline_at, \
         detached = u.detached, started_at = u.started_at, \
         last_attempted_at = u.last_attempted_at, finished_at = u.finished_at, \
         cancel_requested_at = u.cancel_requested_at, \
         progress_fraction = u.progress_fraction, progress_message = u.progress_message, \
         history = u.history \
         FROM UNNEST($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
         $17, $18, $19, $20, $21) AS u (seq, stored, stage, executor_id, due_at, attempts, \
         attempts_before, deliveries, worker_ids, lease_secret, lease_renewed_at, \
         lease_expires_at, deadline_at, detached, started_at, last_attempted_at, finished_at, \
         cancel_requested_at, progress_fraction, progress_message, history) \
         WHERE tasks.seq = u.seq AND tasks.stage = u.stored RETURNING tasks.seq",
    )
    .bind::<Array<BigInt>, _>(column(rows, |(row, _)| row.seq))
    .bind::<Array<SmallInt>, _>(column(rows, |(_, stored)| *stored))
    .bind::<Array<SmallInt>, _>(column(rows, |(row, _)| row.now.stage))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |(row, _)| row.now.executor_id))
    .bind::<Array<BigInt>, _>(column(rows, |(row, _)| row.now.due_at))
    .bind::<Array<Integer>, _>(column(rows, |(row, _)| row.now.attempts))
    .bind::<Array<Integer>, _>(column(rows, |(row, _)| row.now.attempts_before))
    .bind::<Array<Integer>, _>(column(rows, |(row, _)| row.now.deliveries))
    .bind::<Array<Text>, _>(column(rows, |(row, _)| row.now.worker_ids.as_str()))
    .bind::<Array<Nullable<Binary>>, _>(column(rows, |(row, _)| row.now.lease_secret.as_deref()))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |(row, _)| row.now.lease_renewed_at))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |(row, _)| row.now.lease_expires_at))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |(row, _)| row.now.deadline_at))
    .bind::<Array<Bool>, _>(column(rows, |(row, _)| row.now.detached))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |(row, _)| row.now.started_at))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |(row, _)| row.now.last_attempted_at))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |(row, _)| row.now.finished_at))
    .bind::<Array<Nullable<BigInt>>, _>(column(rows, |(row, _)| row.now.cancel_requested_at))
    .bind::<Array<Nullable<Double>>, _>(column(rows, |(row, _)| row.now.progress_fraction))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |(row, _)| row.now.progress_message.as_deref()))
    .bind::<Array<Text>, _>(column(rows, |(row, _)| row.now.history.as_str()))
    .cached()
    .load::<Touched>(c)?
    .len())
}

/// Inserts errors of tasks.
pub(in crate::store) fn insert_errors(link: &mut Link<'_>, rows: &[ErrorRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match link {
        Link::Sqlite(c) => {
            for row in rows {
                diesel::insert_into(task_errors::table).values(row).execute(*c)?;
            }
        }
        Link::Postgres(c) => {
            sql_query(
                "INSERT INTO task_errors (task_seq, attempt, kind, at, exception_class_path, \
                 message, traceback) SELECT * FROM UNNEST($1, $2, $3, $4, $5, $6, $7) \
                 RETURNING task_seq AS seq",
            )
            .bind::<Array<BigInt>, _>(column(rows, |row| row.task_seq))
            .bind::<Array<Integer>, _>(column(rows, |row| row.attempt))
            .bind::<Array<SmallInt>, _>(column(rows, |row| row.kind))
            .bind::<Array<BigInt>, _>(column(rows, |row| row.at))
            .bind::<Array<Nullable<Text>>, _>(column(rows, |row| {
                row.exception_class_path.as_deref()
            }))
            .bind::<Array<Text>, _>(column(rows, |row| row.message.as_str()))
            .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.traceback.as_deref()))
            .cached()
            .load::<Touched>(*c)?;
        }
    }
    Ok(())
}

/// Deletes the oldest errors of these tasks where there are too many. Returns for each task that
/// lost some how many it has lost in all.
pub(in crate::store) fn drop_old_errors(
    link: &mut Link<'_>,
    tasks: &BTreeSet<i64>,
) -> Result<Vec<(i64, i32)>> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let lost: Vec<Touched> = match link {
        Link::Sqlite(c) => {
            let seqs = to_json(tasks, "places of tasks")?;
            old_errors("IN (SELECT value FROM json_each($1))")
                .bind::<Text, _>(seqs)
                .bind::<BigInt, _>(ERRORS_PER_TASK_MAX)
                .bind::<BigInt, _>(ERROR_BYTES_PER_TASK_MAX)
                .cached()
                .load(*c)?
        }
        Link::Postgres(c) => old_errors("= ANY ($1)")
            .bind::<Array<BigInt>, _>(tasks.iter().copied().collect::<Vec<_>>())
            .bind::<BigInt, _>(ERRORS_PER_TASK_MAX)
            .bind::<BigInt, _>(ERROR_BYTES_PER_TASK_MAX)
            .cached()
            .load(*c)?,
    };
    let mut counts: BTreeMap<i64, i32> = BTreeMap::new();
    for Touched { seq } in lost {
        *counts.entry(seq).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|(seq, lost)| {
            let count = diesel::update(tasks::table.find(seq))
                .set(tasks::errors_dropped.eq(tasks::errors_dropped + lost))
                .returning((tasks::seq, tasks::errors_dropped));
            Ok(on_engine!(&mut *link, c => count.get_result(c))?)
        })
        .collect()
}

/// Deletes the oldest errors of the tasks whose `task_seq` satisfies `are`, and returns one row for
/// each. The last error stays, however large it is.
fn old_errors(are: &str) -> SqlQuery {
    sql_query(format!(
        "DELETE FROM task_errors WHERE id IN (SELECT id FROM (\
         SELECT id, row_number() OVER newer AS place, sum(bytes) OVER newer AS total FROM (\
         SELECT id, task_seq, octet_length(message) + coalesce(octet_length(traceback), 0) \
         + coalesce(octet_length(exception_class_path), 0) AS bytes \
         FROM task_errors WHERE task_seq {are}) AS sized \
         WINDOW newer AS (PARTITION BY task_seq ORDER BY id DESC)) AS placed \
         WHERE place > $2 OR (place > 1 AND total > $3)) RETURNING task_seq AS seq"
    ))
}

/// Stores return values.
pub(in crate::store) fn insert_results(link: &mut Link<'_>, rows: &[ResultRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match link {
        Link::Sqlite(c) => {
            for row in rows {
                diesel::insert_into(task_results::table).values(row).execute(*c)?;
            }
        }
        Link::Postgres(c) => {
            sql_query(
                "INSERT INTO task_results (task_seq, return_value) SELECT * FROM UNNEST($1, $2) \
                 RETURNING task_seq AS seq",
            )
            .bind::<Array<BigInt>, _>(column(rows, |row| row.task_seq))
            .bind::<Array<Text>, _>(column(rows, |row| row.return_value.as_str()))
            .cached()
            .load::<Touched>(*c)?;
        }
    }
    Ok(())
}

/// Inserts log lines of tasks, in their order.
pub(in crate::store) fn insert_logs(link: &mut Link<'_>, rows: &[LogRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match link {
        Link::Sqlite(c) => {
            for row in rows {
                let insert = diesel::insert_into(task_logs::table).values(row);
                insert.returning(task_logs::id).cached().get_result::<i64>(*c)?;
            }
        }
        Link::Postgres(c) => {
            sql_query(
                "INSERT INTO task_logs (task_seq, attempt, at, level, bytes, message) \
                 SELECT * FROM UNNEST($1, $2, $3, $4, $5, $6) RETURNING id AS seq",
            )
            .bind::<Array<BigInt>, _>(column(rows, |row| row.task_seq))
            .bind::<Array<Integer>, _>(column(rows, |row| row.attempt))
            .bind::<Array<BigInt>, _>(column(rows, |row| row.at))
            .bind::<Array<SmallInt>, _>(column(rows, |row| row.level))
            .bind::<Array<Integer>, _>(column(rows, |row| row.bytes))
            .bind::<Array<Text>, _>(column(rows, |row| row.message.as_str()))
            .cached()
            .load::<Touched>(*c)?;
        }
    }
    Ok(())
}

/// Inserts rows of events in their order, each with its bytes and its text.
pub(in crate::store) fn insert_events(
    link: &mut Link<'_>,
    at: i64,
    rows: &[(i64, &str)],
) -> Result<()> {
    match link {
        Link::Sqlite(c) => {
            for (bytes, text) in rows {
                let row = (events::at.eq(at), events::bytes.eq(bytes), events::lines.eq(text));
                let insert = diesel::insert_into(events::table).values(row);
                insert.returning(events::seq).cached().get_result::<i64>(*c)?;
            }
        }
        Link::Postgres(c) => {
            sql_query(
                "INSERT INTO events (at, bytes, lines) SELECT $1, * FROM UNNEST($2, $3) \
                 RETURNING seq",
            )
            .bind::<BigInt, _>(at)
            .bind::<Array<BigInt>, _>(column(rows, |(bytes, _)| *bytes))
            .bind::<Array<Text>, _>(column(rows, |(_, text)| *text))
            .cached()
            .load::<Touched>(*c)?;
        }
    }
    Ok(())
}

/// Inserts entries of the audit log.
pub(in crate::store) fn insert_audit_entries(link: &mut Link<'_>, rows: &[AuditRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match link {
        Link::Sqlite(c) => {
            for row in rows {
                let insert = diesel::insert_into(audit_log::table).values(row);
                insert.returning(audit_log::seq).cached().get_result::<i64>(*c)?;
            }
        }
        Link::Postgres(c) => {
            sql_query(
                "INSERT INTO audit_log (at, actor, address, action, object) SELECT * FROM \
                 UNNEST($1, $2, $3, $4, $5) RETURNING seq",
            )
            .bind::<Array<BigInt>, _>(column(rows, |row| row.at))
            .bind::<Array<Text>, _>(column(rows, |row| row.actor.as_str()))
            .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.address.as_deref()))
            .bind::<Array<Text>, _>(column(rows, |row| row.action))
            .bind::<Array<Text>, _>(column(rows, |row| row.object.as_str()))
            .cached()
            .load::<Touched>(*c)?;
        }
    }
    Ok(())
}
