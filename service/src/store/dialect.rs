//! What the two engines cannot say alike, each pair under one contract.

use diesel::{
    expression::SqlLiteral,
    prelude::*,
    sql_query,
    sql_types::{BigInt, Bool},
};

use super::{
    error::{Error, Result},
    link::Link,
    rows::{InputRow, LabelRow, TaskRow},
    schema::{executors, routing, stage, task_inputs, task_labels, tasks},
};

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
                    .get_result(*c)?;
            Ok((last.number - count + 1..=last.number).collect())
        }
        Link::Postgres(c) => {
            let mut seqs: Vec<Number> =
                sql_query("SELECT nextval('task_seqs') AS number FROM generate_series(1, $1)")
                    .bind::<BigInt, _>(count)
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

/// The version of the executors, which no other process changes before this transaction ends.
pub(super) fn routing_version(link: &mut Link<'_>) -> Result<i64> {
    let version = routing::table.select(routing::version);
    Ok(match link {
        Link::Sqlite(c) => version.first(*c)?,
        Link::Postgres(c) => version.for_share().first(*c)?,
    })
}

/// Locks the circuits of executors, one after the other, until this transaction ends.
pub(super) fn lock_executor(link: &mut Link<'_>, id: i64) -> Result<bool> {
    let row = executors::table.find(id).select(executors::id);
    let found: Option<i64> = match link {
        Link::Sqlite(c) => row.first(*c).optional()?,
        Link::Postgres(c) => row.for_update().first(*c).optional()?,
    };
    Ok(found.is_some())
}

/// Inserts tasks with their inputs and labels.
pub(super) fn insert_tasks(
    link: &mut Link<'_>,
    tasks: &[TaskRow],
    inputs: &[InputRow<'_>],
    labels: &[LabelRow],
) -> Result<()> {
    match link {
        // Row by row through a cached statement: SQLite is in this process, so a statement of
        // many rows would only have to be compiled again for each length.
        Link::Sqlite(c) => {
            for row in tasks {
                diesel::insert_into(tasks::table).values(row).execute(*c)?;
            }
            for row in inputs {
                diesel::insert_into(task_inputs::table).values(row).execute(*c)?;
            }
            for row in labels {
                diesel::insert_into(task_labels::table).values(row).execute(*c)?;
            }
        }
        // Many rows a statement: each one is a round trip. The protocol has 16-bit counts.
        Link::Postgres(c) => {
            const ROWS_MAX: usize = 2_000;
            for rows in tasks.chunks(ROWS_MAX) {
                diesel::insert_into(tasks::table).values(rows).execute(*c)?;
            }
            for rows in inputs.chunks(ROWS_MAX) {
                diesel::insert_into(task_inputs::table).values(rows).execute(*c)?;
            }
            for rows in labels.chunks(ROWS_MAX) {
                diesel::insert_into(task_labels::table).values(rows).execute(*c)?;
            }
        }
    }
    Ok(())
}

/// The tasks with these places, locked until this transaction ends.
pub(super) fn lock_tasks(link: &mut Link<'_>, seqs: &[i64]) -> Result<Vec<TaskRow>> {
    let rows = tasks::table.filter(tasks::seq.eq_any(seqs)).order(tasks::seq);
    Ok(match link {
        Link::Sqlite(c) => rows.select(TaskRow::as_select()).load(*c)?,
        Link::Postgres(c) => rows.for_update().select(TaskRow::as_select()).load(*c)?,
    })
}

/// The task with this place, locked until this transaction ends.
pub(super) fn lock_task(link: &mut Link<'_>, seq: i64) -> Result<Option<TaskRow>> {
    let row = tasks::table.find(seq);
    Ok(match link {
        Link::Sqlite(c) => row.select(TaskRow::as_select()).first(*c).optional()?,
        Link::Postgres(c) => row.for_update().select(TaskRow::as_select()).first(*c).optional()?,
    })
}

/// The task with this id, locked until this transaction ends.
pub(super) fn lock_task_by_id(link: &mut Link<'_>, id: &[u8]) -> Result<Option<TaskRow>> {
    let row = tasks::table.filter(tasks::id.eq(id));
    Ok(match link {
        Link::Sqlite(c) => row.select(TaskRow::as_select()).first(*c).optional()?,
        Link::Postgres(c) => row.for_update().select(TaskRow::as_select()).first(*c).optional()?,
    })
}

/// The first due tasks of an executor in their order, locked; those that another process is
/// about to claim are passed over.
pub(super) fn lock_available(
    link: &mut Link<'_>,
    executor_id: i64,
    limit: i64,
) -> Result<Vec<TaskRow>> {
    let rows = available(executor_id, limit);
    Ok(match link {
        Link::Sqlite(c) => rows.select(TaskRow::as_select()).load(*c)?,
        Link::Postgres(c) => {
            rows.for_update().skip_locked().select(TaskRow::as_select()).load(*c)?
        }
    })
}

#[diesel::dsl::auto_type(no_type_alias)]
fn available(executor_id: i64, limit: i64) -> _ {
    let is_available: SqlLiteral<Bool> = stage::is_available();
    tasks::table
        .filter(is_available)
        .filter(tasks::executor_id.eq(executor_id))
        .order((tasks::priority.desc(), tasks::due_at, tasks::seq))
        .limit(limit)
}

#[cfg(test)]
mod tests {
    use diesel::{connection::SimpleConnection, debug_query, prelude::*, sql_query};

    use super::{TaskRow, available};

    #[derive(QueryableByName)]
    struct Step {
        #[diesel(sql_type = diesel::sql_types::Text)]
        detail: String,
    }

    #[test]
    fn b82_c46_a_claim_reads_what_it_claims_and_nothing_else() {
        let mut c = SqliteConnection::establish(":memory:").unwrap();
        c.batch_execute(include_str!("../../../migrations/sqlite/0001_tasks/up.sql")).unwrap();
        let query = available(1, 10).select(TaskRow::as_select());
        let text = debug_query::<diesel::sqlite::Sqlite, _>(&query).to_string();
        let text = text.split(" -- binds").next().unwrap();
        let plan: Vec<Step> = sql_query(format!("EXPLAIN QUERY PLAN {text}")).load(&mut c).unwrap();
        let plan: Vec<&str> = plan.iter().map(|step| step.detail.as_str()).collect();
        // One step: no scan of the table, and no sorting.
        assert_eq!(plan, ["SEARCH tasks USING INDEX tasks_available (executor_id=?)"]);
    }
}
