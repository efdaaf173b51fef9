//! Reads pages of tasks and executors.

use std::collections::HashMap;

use diesel::{define_sql_function, prelude::*};

use super::{
    error::Result,
    link::{Link, on_engine},
    mend::mend,
    reads,
    rows::{TaskRow, count, micros, time},
    schema::{executors, stage, task_labels, tasks},
    transition,
};
use crate::domain::{Timestamp, task::TaskSummary};

define_sql_function! {
    /// The part of a text, counted in characters from 1; both engines have it.
    fn substr(text: diesel::sql_types::Text, from: diesel::sql_types::Integer, length: diesel::sql_types::Integer) -> diesel::sql_types::Text;
}

/// READY is two stages, so lists filter by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Waiting,
    Running,
    Successful,
    Failed,
    Cancelled,
}

/// Which task paths a list shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathFilter {
    Exact(String),
    Prefix(String),
}

/// What a page of tasks is to hold; each `None` lets everything through.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    pub phase: Option<Phase>,
    pub queue_name: Option<String>,
    pub task_path: Option<PathFilter>,
    pub executor: Option<String>,
    pub label: Option<(String, String)>,
    pub enqueued_after: Option<Timestamp>,
    pub enqueued_before: Option<Timestamp>,
    /// Only what lies before this place.
    pub before: Option<i64>,
    pub limit: u32,
}

/// One page, newest first.
#[derive(Clone, Debug)]
pub struct TaskPage {
    pub tasks: Vec<TaskSummary>,
    /// Where to read on. Places are never used twice and never change, so a page that starts
    /// there neither repeats nor skips a task, whatever arrives meanwhile.
    pub next: Option<i64>,
}

pub(super) fn page(link: &mut Link<'_>, filter: &TaskFilter) -> Result<TaskPage> {
    let mut rows = rows(link, filter)?;
    let wanted = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    for row in &mut rows {
        mend(row);
    }
    let next = rows.last().filter(|_| more).map(|row| row.seq);
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    let mut labels = reads::labels_of(link, &seqs)?;
    let names = executor_names(link)?;
    let tasks = rows
        .into_iter()
        .map(|row| {
            let labels = labels.remove(&row.seq).unwrap_or_default();
            let executor = row.now.executor_id.and_then(|id| names.get(&id)).cloned();
            Ok(TaskSummary {
                id: transition::task_id(&row)?,
                stage: row.stage()?,
                priority: row.priority,
                due_at: time(row.now.due_at)?,
                labels,
                executor,
                attempts: count(row.now.attempts),
                times: row.times()?,
                task_path: row.task_path,
                queue_name: row.queue_name,
            })
        })
        .collect::<Result<_>>()?;
    Ok(TaskPage { tasks, next })
}

fn executor_names(link: &mut Link<'_>) -> Result<HashMap<i64, String>> {
    let names = executors::table.select((executors::id, executors::name));
    let names: Vec<(i64, String)> = on_engine!(link, c => names.load(c))?;
    Ok(names.into_iter().collect())
}

/// One row more than asked for, to see whether there is another page.
fn rows(link: &mut Link<'_>, filter: &TaskFilter) -> Result<Vec<TaskRow>> {
    on_engine!(link, c => {
        let mut query = tasks::table.select(TaskRow::as_select()).into_boxed();
        query = match filter.phase {
            None => query,
            Some(Phase::Waiting) => query.filter(stage::is_waiting()),
            Some(Phase::Running) => query.filter(stage::is_running()),
            Some(Phase::Successful) => query.filter(stage::is_successful()),
            Some(Phase::Failed) => query.filter(stage::is_failed()),
            Some(Phase::Cancelled) => query.filter(stage::is_cancelled()),
        };
        if let Some(queue_name) = &filter.queue_name {
            query = query.filter(tasks::queue_name.eq(queue_name));
        }
        query = match &filter.task_path {
            None => query,
            Some(PathFilter::Exact(path)) => query.filter(tasks::task_path.eq(path)),
            Some(PathFilter::Prefix(prefix)) => {
                let length = i32::try_from(prefix.chars().count()).unwrap_or(i32::MAX);
                query.filter(substr(tasks::task_path, 1, length).eq(prefix))
            }
        };
        if let Some(executor) = &filter.executor {
            let id = executors::table
                .filter(executors::name.eq(executor))
                .select(executors::id.nullable())
                .single_value();
            query = query.filter(tasks::executor_id.eq(id));
        }
        if let Some((key, value)) = &filter.label {
            let labelled = task_labels::table
                .filter(task_labels::key.eq(key))
                .filter(task_labels::value.eq(value))
                .select(task_labels::task_seq);
            query = query.filter(tasks::seq.eq_any(labelled));
        }
        if let Some(after) = filter.enqueued_after {
            query = query.filter(tasks::enqueued_at.gt(micros(after)));
        }
        if let Some(before) = filter.enqueued_before {
            query = query.filter(tasks::enqueued_at.lt(micros(before)));
        }
        if let Some(before) = filter.before {
            query = query.filter(tasks::seq.lt(before));
        }
        Ok(query.order(tasks::seq.desc()).limit(i64::from(filter.limit) + 1).load(c)?)
    })
}
