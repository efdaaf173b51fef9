//! Reads the first due tasks of an executor, in their order, beginning at the floors.
//!
//! A look at the whole reads the tasks of all queues, which lie in one order in the index
//! `tasks_in_order`. A queue that is looked at by itself has its own part of `tasks_available`.

use std::collections::BTreeMap;

use diesel::{
    expression::SqlLiteral,
    prelude::*,
    sql_query,
    sql_types::{Array, BigInt, Bool, SmallInt, Text},
};

use crate::store::{
    cached::FewTexts,
    cells::Parts,
    error::Result,
    link::{Link, on_engine},
    rows::to_json,
    schema::{stage, tasks},
};

/// One of the first due tasks.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub(in crate::store) struct Head {
    #[diesel(sql_type = Text)]
    pub(in crate::store) queue_name: String,
    #[diesel(sql_type = SmallInt)]
    pub(in crate::store) priority: i16,
    #[diesel(sql_type = BigInt)]
    pub(in crate::store) due_at: i64,
    #[diesel(sql_type = BigInt)]
    pub(in crate::store) seq: i64,
}

#[derive(QueryableByName)]
struct Priority {
    #[diesel(sql_type = SmallInt)]
    priority: i16,
}

/// The priorities of an executor's due tasks. Each is found by one step in the index.
pub(in crate::store) fn priorities(link: &mut Link<'_>, executor_id: i64) -> Result<Vec<i16>> {
    let query = sql_query(PRIORITIES).bind::<BigInt, _>(executor_id).cached();
    let found: Vec<Priority> = on_engine!(link, c => query.load(c))?;
    Ok(found.into_iter().map(|row| row.priority).collect())
}

const PRIORITIES: &str = "WITH RECURSIVE found (priority) AS (\
     SELECT max(priority) FROM tasks WHERE stage = 1 AND executor_id = $1 AND priority >= -100 \
     UNION ALL \
     SELECT (SELECT max(tasks.priority) FROM tasks WHERE stage = 1 AND executor_id = $1 \
     AND tasks.priority >= -100 AND tasks.priority < found.priority) FROM found WHERE found.priority IS NOT NULL) \
     SELECT priority FROM found WHERE priority IS NOT NULL";

/// The first due tasks of all queues except some: at most `limit` of each part, in no order.
pub(in crate::store) fn whole_heads(
    link: &mut Link<'_>,
    executor_id: i64,
    parts: &Parts,
    except: &[String],
    limit: i64,
) -> Result<Vec<Head>> {
    match link {
        Link::Sqlite(c) => {
            let except = to_json(&except, "names of queues")?;
            let mut heads = Vec::new();
            for (priority, (due_at, seq)) in &parts.cells {
                let cell: Vec<Head> = sql_query(CELL)
                    .bind::<BigInt, _>(executor_id)
                    .bind::<SmallInt, _>(*priority)
                    .bind::<BigInt, _>(*due_at)
                    .bind::<BigInt, _>(*seq)
                    .bind::<Text, _>(&except)
                    .bind::<BigInt, _>(limit)
                    .cached()
                    .load(*c)?;
                heads.extend(cell);
            }
            for (low, high) in &parts.gaps {
                let gap: Vec<Head> = sql_query(GAP)
                    .bind::<BigInt, _>(executor_id)
                    .bind::<SmallInt, _>(*low)
                    .bind::<SmallInt, _>(*high)
                    .bind::<Text, _>(&except)
                    .bind::<BigInt, _>(limit)
                    .cached()
                    .load(*c)?;
                heads.extend(gap);
            }
            Ok(heads)
        }
        Link::Postgres(c) => {
            let one = |(): &()| String::new();
            let columns = Columns::new([((), parts)], one);
            Ok(sql_query(WHOLE)
                .bind::<BigInt, _>(executor_id)
                .bind::<Array<SmallInt>, _>(columns.priorities)
                .bind::<Array<BigInt>, _>(columns.due_ats)
                .bind::<Array<BigInt>, _>(columns.seqs)
                .bind::<Array<SmallInt>, _>(columns.lows)
                .bind::<Array<SmallInt>, _>(columns.highs)
                .bind::<Array<Text>, _>(except)
                .bind::<BigInt, _>(limit)
                .cached()
                .load(*c)?)
        }
    }
}

/// For SQLite: one priority, from a place on.
const CELL: &str = "SELECT queue_name, priority, due_at, seq FROM tasks \
     WHERE stage = 1 AND executor_id = ?1 AND priority = ?2 AND (due_at, seq) >= (?3, ?4) \
     AND queue_name NOT IN (SELECT value FROM json_each(?5)) ORDER BY due_at, seq LIMIT ?6";

/// For SQLite: all tasks of some priorities.
const GAP: &str = "SELECT queue_name, priority, due_at, seq FROM tasks \
     WHERE stage = 1 AND executor_id = ?1 AND priority BETWEEN ?2 AND ?3 \
     AND queue_name NOT IN (SELECT value FROM json_each(?4)) \
     ORDER BY priority DESC, due_at, seq LIMIT ?5";

/// For PostgreSQL: any number of cells and gaps. Each part says that priorities are not below -100,
/// which is always so, because PostgreSQL uses the index only then.
const WHOLE: &str = "SELECT head.* FROM UNNEST($2, $3, $4) AS cell (priority, due_at, seq) \
     CROSS JOIN LATERAL (SELECT t.queue_name, t.priority, t.due_at, t.seq FROM tasks AS t \
     WHERE t.stage = 1 AND t.executor_id = $1 AND t.priority = cell.priority \
     AND t.priority >= -100 AND (t.due_at, t.seq) >= (cell.due_at, cell.seq) AND t.queue_name <> ALL ($7) \
     ORDER BY t.due_at, t.seq LIMIT $8) AS head \
     UNION ALL SELECT head.* FROM UNNEST($5, $6) AS gap (low, high) \
     CROSS JOIN LATERAL (SELECT t.queue_name, t.priority, t.due_at, t.seq FROM tasks AS t \
     WHERE t.stage = 1 AND t.executor_id = $1 AND t.priority BETWEEN gap.low AND gap.high \
     AND t.priority >= -100 AND t.queue_name <> ALL ($7) ORDER BY t.priority DESC, t.due_at, t.seq LIMIT $8) AS head";

/// The first due tasks of queues that are looked at one by one: at most `limit` of each part, in no
/// order. SQLite has no dead entries to pass over, so there each queue is read from its beginning.
pub(in crate::store) fn queue_heads(
    link: &mut Link<'_>,
    executor_id: i64,
    queues: &BTreeMap<String, Parts>,
    limit: i64,
) -> Result<Vec<Head>> {
    match link {
        Link::Sqlite(c) => {
            let mut heads = Vec::new();
            for queue_name in queues.keys() {
                let found: Vec<(i16, i64, i64)> =
                    queue(executor_id, queue_name, limit).cached().load(*c)?;
                heads.extend(found.into_iter().map(|(priority, due_at, seq)| Head {
                    queue_name: queue_name.clone(),
                    priority,
                    due_at,
                    seq,
                }));
            }
            Ok(heads)
        }
        Link::Postgres(c) => {
            let columns = Columns::new(queues, |name| (*name).clone());
            Ok(sql_query(QUEUES)
                .bind::<BigInt, _>(executor_id)
                .bind::<Array<Text>, _>(columns.cell_queues)
                .bind::<Array<SmallInt>, _>(columns.priorities)
                .bind::<Array<BigInt>, _>(columns.due_ats)
                .bind::<Array<BigInt>, _>(columns.seqs)
                .bind::<Array<Text>, _>(columns.gap_queues)
                .bind::<Array<SmallInt>, _>(columns.lows)
                .bind::<Array<SmallInt>, _>(columns.highs)
                .bind::<BigInt, _>(limit)
                .cached()
                .load(*c)?)
        }
    }
}

const QUEUES: &str = "SELECT head.* \
     FROM UNNEST($2, $3, $4, $5) AS cell (queue_name, priority, due_at, seq) \
     CROSS JOIN LATERAL (SELECT t.queue_name, t.priority, t.due_at, t.seq FROM tasks AS t \
     WHERE t.stage = 1 AND t.executor_id = $1 AND t.queue_name = cell.queue_name \
     AND t.priority = cell.priority AND (t.due_at, t.seq) >= (cell.due_at, cell.seq) \
     ORDER BY t.due_at, t.seq LIMIT $9) AS head \
     UNION ALL SELECT head.* FROM UNNEST($6, $7, $8) AS gap (queue_name, low, high) \
     CROSS JOIN LATERAL (SELECT t.queue_name, t.priority, t.due_at, t.seq FROM tasks AS t \
     WHERE t.stage = 1 AND t.executor_id = $1 AND t.queue_name = gap.queue_name \
     AND t.priority BETWEEN gap.low AND gap.high \
     ORDER BY t.priority DESC, t.due_at, t.seq LIMIT $9) AS head";

#[diesel::dsl::auto_type(no_type_alias)]
fn queue<'a>(executor_id: i64, queue_name: &'a str, limit: i64) -> _ {
    let is_available: SqlLiteral<Bool> = stage::is_available();
    tasks::table
        .filter(is_available)
        .filter(tasks::executor_id.eq(executor_id))
        .filter(tasks::queue_name.eq(queue_name))
        .order((tasks::priority.desc(), tasks::due_at, tasks::seq))
        .limit(limit)
        .select((tasks::priority, tasks::due_at, tasks::seq))
}

/// The parts of several looks, as the arrays that a statement takes.
#[derive(Default)]
struct Columns {
    cell_queues: Vec<String>,
    priorities: Vec<i16>,
    due_ats: Vec<i64>,
    seqs: Vec<i64>,
    gap_queues: Vec<String>,
    lows: Vec<i16>,
    highs: Vec<i16>,
}

impl Columns {
    fn new<'a, K>(
        looks: impl IntoIterator<Item = (K, &'a Parts)>,
        queue_name: impl Fn(&K) -> String,
    ) -> Self {
        let mut columns = Self::default();
        for (key, parts) in looks {
            for (priority, (due_at, seq)) in &parts.cells {
                columns.cell_queues.push(queue_name(&key));
                columns.priorities.push(*priority);
                columns.due_ats.push(*due_at);
                columns.seqs.push(*seq);
            }
            for (low, high) in &parts.gaps {
                columns.gap_queues.push(queue_name(&key));
                columns.lows.push(*low);
                columns.highs.push(*high);
            }
        }
        columns
    }
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use diesel::{connection::SimpleConnection, debug_query, prelude::*, sql_query};

    use super::{CELL, GAP, PRIORITIES, queue};

    #[derive(QueryableByName)]
    struct Step {
        #[diesel(sql_type = diesel::sql_types::Text)]
        detail: String,
    }

    /// The steps by which SQLite carries a query out.
    pub(in crate::store) fn plan(query: &str) -> Vec<String> {
        let mut c = SqliteConnection::establish(":memory:").unwrap();
        for migration in [
            include_str!("../../../../migrations/sqlite/0001_tasks/up.sql"),
            include_str!("../../../../migrations/sqlite/0002_queues_and_workers/up.sql"),
            include_str!("../../../../migrations/sqlite/0004_events/up.sql"),
            include_str!("../../../../migrations/sqlite/0007_order_and_bounds/up.sql"),
        ] {
            c.batch_execute(migration).unwrap();
        }
        let steps: Vec<Step> =
            sql_query(format!("EXPLAIN QUERY PLAN {query}")).load(&mut c).unwrap();
        steps.into_iter().map(|step| step.detail).collect()
    }

    #[test]
    fn b82_c46_a_claim_reads_what_it_claims_and_nothing_else() {
        // One step each: no scan of the table, no sorting, and no read of the rows themselves.
        for (query, step) in [
            (CELL, "(executor_id=? AND priority=? AND due_at>?)"),
            (GAP, "(executor_id=? AND priority>? AND priority<?)"),
        ] {
            let plan: Vec<String> =
                plan(query).into_iter().filter(|step| !step.contains("json_each")).collect();
            let step = format!("SEARCH tasks USING COVERING INDEX tasks_in_order {step}");
            assert_eq!(plan.first(), Some(&step), "{plan:?}");
            assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE FOR ORDER")), "{plan:?}");
        }
        let query = queue(1, "default", 10);
        let text = debug_query::<diesel::sqlite::Sqlite, _>(&query).to_string();
        assert_eq!(
            plan(text.split(" -- binds").next().unwrap()),
            ["SEARCH tasks USING COVERING INDEX tasks_available (executor_id=? AND queue_name=?)"]
        );
    }

    #[test]
    fn b82_priorities_are_found_by_steps_in_the_index() {
        let plan = plan(PRIORITIES);
        let searches: Vec<&String> = plan.iter().filter(|step| step.contains("tasks")).collect();
        assert_eq!(searches.len(), 2, "{plan:?}");
        for search in searches {
            let index = "SEARCH tasks USING COVERING INDEX tasks_in_order";
            assert!(search.starts_with(index), "{search}");
        }
    }
}
