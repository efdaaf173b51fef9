//! Reads pages of tasks.

use std::collections::{BTreeMap, HashMap};

use diesel::{define_sql_function, prelude::*};

use super::{
    error::Result,
    link::{Link, on_engine},
    mend, reads,
    rows::{corrupt, count, micros, time, times},
    schema::{executors, stage, task_labels, tasks},
    sizes, transition,
};
use crate::{
    domain::{
        Timestamp,
        limits::PAGE_BYTES_MAX,
        names::{QueueName, TaskPath},
        state::Stage,
        task::TaskSummary,
    },
    memory::{Held, Share},
};

/// About how many bytes a list shows of each task beside its texts.
const ROW_BYTES: usize = 512;

define_sql_function! {
    /// The part of a text from a character on, counted from 1. Both engines have this function.
    fn substr(text: diesel::sql_types::Text, from: diesel::sql_types::Integer, length: diesel::sql_types::Integer) -> diesel::sql_types::Text;
}

/// The phases by which lists filter, instead of by stages: READY is two stages.
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

/// Which tasks a page shows. A field that is `None` lets all of them through.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    pub phase: Option<Phase>,
    pub queue_name: Option<String>,
    pub task_path: Option<PathFilter>,
    pub executor: Option<String>,
    pub label: Option<(String, String)>,
    pub enqueued_after: Option<Timestamp>,
    pub enqueued_before: Option<Timestamp>,
    /// Only tasks whose `seq` is below this one.
    pub before: Option<i64>,
    pub limit: u32,
}

/// The columns that a list shows.
#[derive(Queryable, Selectable)]
#[diesel(table_name = tasks)]
struct SummaryRow {
    seq: i64,
    id: Vec<u8>,
    task_path: String,
    queue_name: String,
    priority: i16,
    stage: i16,
    executor_id: Option<i64>,
    enqueued_at: i64,
    due_at: i64,
    attempts: i32,
    started_at: Option<i64>,
    finished_at: Option<i64>,
}

/// One page, newest first.
#[derive(Clone, Debug)]
pub struct TaskPage {
    pub tasks: Vec<TaskSummary>,
    /// The `before` of the next page; `None` on the last one. A `seq` is never given out twice and
    /// never changes, so the next page neither repeats nor skips a task, whatever is enqueued
    /// meanwhile.
    pub next: Option<i64>,
}

/// Reads a page after `room` was taken for it. If rows are large, the page has fewer of them.
pub(super) fn page(
    link: &mut Link<'_>,
    filter: &TaskFilter,
    room: impl FnOnce(usize) -> Result<Share>,
) -> Result<Held<TaskPage>> {
    let mut rows = rows(link, filter)?;
    let wanted = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    let labels = sizes::labels(link, &seqs)?;
    let mut bytes = 0;
    let fitting = rows.iter().take(wanted).take_while(|row| {
        let begun = bytes > 0;
        bytes += row.bytes() + labels.get(&row.seq).copied().unwrap_or(0);
        !begun || bytes <= PAGE_BYTES_MAX
    });
    let fitting = fitting.count();
    let share = room(bytes)?;
    let more = rows.len() > fitting;
    rows.truncate(fitting);
    for row in &mut rows {
        row.mend();
    }
    let next = rows.last().filter(|_| more).map(|row| row.seq);
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    let mut labels = reads::labels_of(link, &seqs)?;
    let names = executor_names(link)?;
    let tasks = rows
        .into_iter()
        .map(|row| {
            let labels = labels.remove(&row.seq).unwrap_or_default();
            let executor = row.executor_id.and_then(|id| names.get(&id)).cloned();
            row.summary(labels, executor)
        })
        .collect::<Result<_>>()?;
    Ok(Held { value: TaskPage { tasks, next }, share })
}

impl SummaryRow {
    /// About how many bytes the row takes in a list, without its labels.
    fn bytes(&self) -> usize {
        ROW_BYTES + self.task_path.len() + self.queue_name.len()
    }

    /// Makes the row readable, as claims do with whole rows.
    fn mend(&mut self) {
        mend::id(&mut self.id);
        mend::stage(&mut self.stage);
        mend::name::<TaskPath>(&mut self.task_path);
        mend::name::<QueueName>(&mut self.queue_name);
        mend::number(&mut self.attempts);
        let times = [&mut self.enqueued_at, &mut self.due_at].into_iter();
        let ends = [&mut self.started_at, &mut self.finished_at];
        for at in times.chain(ends.into_iter().flatten()) {
            mend::time(at);
        }
    }

    fn summary(
        self,
        labels: BTreeMap<String, String>,
        executor: Option<String>,
    ) -> Result<TaskSummary> {
        Ok(TaskSummary {
            id: transition::task_id(&self.id)?,
            stage: Stage::from_number(self.stage)
                .ok_or_else(|| corrupt(format!("the stage {}", self.stage)))?,
            priority: self.priority,
            due_at: time(self.due_at)?,
            labels,
            executor,
            attempts: count(self.attempts),
            enqueued_at: time(self.enqueued_at)?,
            started_at: times(self.started_at)?,
            finished_at: times(self.finished_at)?,
            task_path: self.task_path,
            queue_name: self.queue_name,
        })
    }
}

fn executor_names(link: &mut Link<'_>) -> Result<HashMap<i64, String>> {
    let names = executors::table.select((executors::id, executors::name));
    let names: Vec<(i64, String)> = on_engine!(link, c => names.load(c))?;
    Ok(names.into_iter().collect())
}

/// Reads one row more than is asked for, to see whether there is another page.
fn rows(link: &mut Link<'_>, filter: &TaskFilter) -> Result<Vec<SummaryRow>> {
    on_engine!(link, c => {
        let mut query = tasks::table.select(SummaryRow::as_select()).into_boxed();
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
