//! Finds rows that cannot be read, for `nightshift doctor`.

use diesel::prelude::*;

use super::{
    error::Result,
    link::{Link, on_engine},
    mend::mend,
    reads, registry,
    rows::TaskRow,
    schema::tasks,
    tokens, transition,
};
use crate::domain::state::Stage;

/// How many tasks are looked at, the first enqueued first.
const TASKS_MAX: i64 = 10_000;
/// The highest number of a stage.
const LAST: i16 = Stage::Cancelled as i16;
/// How many tasks' args are read at once.
const CHUNK: usize = 20;
/// How many flaws are reported at most.
const SHOWN_MAX: usize = 20;

/// The flaws that were found in executors, tokens, and tasks that have not ended.
#[derive(Debug, Default)]
pub struct Flaws {
    /// How many tasks were looked at.
    pub tasks: usize,
    /// A sentence for each flaw, for the first of them.
    pub found: Vec<String>,
}

pub(super) fn find(link: &mut Link<'_>) -> Result<Flaws> {
    let mut flaws = Flaws::default();
    for executor in registry::load(link)?.unreadable {
        let (name, error) = (executor.name, executor.error);
        flaws.found.push(format!("executor {name}: {error}; register it again"));
    }
    for (name, error) in tokens::unreadable(link)? {
        flaws.found.push(format!("token {name}: {error}; it counts as revoked"));
    }
    let query = tasks::table
        .filter(tasks::stage.lt(Stage::Successful as i16).or(tasks::stage.gt(LAST)))
        .order(tasks::seq)
        .limit(TASKS_MAX);
    let mut rows: Vec<TaskRow> =
        on_engine!(&mut *link, c => query.select(TaskRow::as_select()).load(c))?;
    flaws.tasks = rows.len();
    for rows in rows.chunks_mut(CHUNK) {
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        let mut parts = reads::parts(link, &seqs)?;
        for row in rows {
            let of_row = mend(row);
            let of_parts = parts.remove(&row.seq).and_then(|parts| parts.flaw);
            if let Some(what) = of_row.or(of_parts) {
                let id = transition::task_id(&row.id)?;
                flaws.found.push(format!("task {id}: the database holds {what}"));
            }
        }
    }
    flaws.found.truncate(SHOWN_MAX);
    Ok(flaws)
}
