//! Reads one task.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::{
    error::Result,
    link::{Link, on_engine},
    rows::{ErrorRow, Inputs, LabelRow, TaskRow, corrupt, count, group_labels, time},
    schema::{executors, task_errors, task_inputs, task_labels, task_results, tasks},
    transition,
};
use crate::domain::{
    attempt::RecordedFailure,
    executor::Executor,
    json::JsonText,
    task::{Content, Task, TaskId},
};

/// The row of a task.
pub(super) fn row(link: &mut Link<'_>, id: TaskId) -> Result<Option<TaskRow>> {
    let query = tasks::table.filter(tasks::id.eq(id.0.as_bytes().to_vec()));
    Ok(on_engine!(link, c => query.select(TaskRow::as_select()).first(c).optional())?)
}

/// The whole record of a row.
pub(super) fn record(link: &mut Link<'_>, row: TaskRow) -> Result<Task> {
    let executor = executor(link, row.now.executor_id)?;
    let inputs: Inputs = on_engine!(&mut *link, c => {
        task_inputs::table.find(row.seq).select(Inputs::as_select()).first(c)
    })?;
    let labels = labels(link, &[row.seq])?;
    let errors = errors(link, row.seq)?;
    let return_value = return_value(link, &row)?;
    Ok(Task {
        id: transition::task_id(&row)?,
        stage: row.stage()?,
        terms: row.options()?.resolve(executor.as_ref().map(|e| &e.registration.defaults)),
        executor: executor.map(|executor| executor.registration.name),
        attempts: count(row.now.attempts),
        deliveries: count(row.now.deliveries),
        worker_ids: row.worker_ids()?,
        due_at: time(row.now.due_at)?,
        times: row.times()?,
        lease: row.lease()?,
        progress: row.progress(),
        return_value,
        errors,
        content: content(row, &inputs, labels)?,
    })
}

fn content(row: TaskRow, inputs: &Inputs, labels: BTreeMap<String, String>) -> Result<Content> {
    Ok(Content {
        options: row.options()?,
        run_after: run_after(&row)?,
        expires_at: super::rows::times(row.expires_at)?,
        task_path: row.task_path.parse().map_err(|_invalid| corrupt("a wrong task_path"))?,
        queue_name: row.queue_name.parse().map_err(|_invalid| corrupt("a wrong queue_name"))?,
        args: json(&inputs.args)?,
        kwargs: json(&inputs.kwargs)?,
        priority: row.priority,
        labels,
        unique_key: row.unique_key,
    })
}

/// The due time, where it is not simply the time of enqueuing.
pub(super) fn run_after(row: &TaskRow) -> Result<Option<crate::domain::Timestamp>> {
    (row.now.due_at != row.enqueued_at).then(|| time(row.now.due_at)).transpose()
}

fn json(text: &str) -> Result<JsonText> {
    JsonText::from_valid(text).map_err(|_invalid| corrupt("JSON that is too deep"))
}

/// The executor with this id, unless it has been deregistered.
pub(super) fn executor(link: &mut Link<'_>, id: Option<i64>) -> Result<Option<Executor>> {
    let Some(id) = id else {
        return Ok(None);
    };
    let row: Option<super::executor_row::ExecutorRow> =
        on_engine!(link, c => executors::table.find(id).first(c).optional())?;
    row.map(Executor::try_from).transpose()
}

/// Labels of several tasks, by their places.
pub(super) fn labels_of(
    link: &mut Link<'_>,
    seqs: &[i64],
) -> Result<BTreeMap<i64, BTreeMap<String, String>>> {
    let query = task_labels::table.filter(task_labels::task_seq.eq_any(seqs));
    Ok(group_labels(on_engine!(link, c => query.select(LabelRow::as_select()).load(c))?))
}

fn labels(link: &mut Link<'_>, seqs: &[i64]) -> Result<BTreeMap<String, String>> {
    Ok(labels_of(link, seqs)?.into_values().next().unwrap_or_default())
}

pub(super) fn errors(link: &mut Link<'_>, seq: i64) -> Result<Vec<RecordedFailure>> {
    let query = task_errors::table.filter(task_errors::task_seq.eq(seq)).order(task_errors::id);
    let rows: Vec<ErrorRow> = on_engine!(link, c => query.select(ErrorRow::as_select()).load(c))?;
    rows.into_iter().map(RecordedFailure::try_from).collect()
}

/// `Some` for a SUCCESSFUL task only, where null is a value like others.
pub(super) fn return_value(link: &mut Link<'_>, row: &TaskRow) -> Result<Option<JsonText>> {
    if row.stage()? != crate::domain::state::Stage::Successful {
        return Ok(None);
    }
    let query = task_results::table.find(row.seq).select(task_results::return_value);
    let text: Option<String> = on_engine!(link, c => query.first(c).optional())?;
    text.map_or_else(|| Ok(Some(JsonText::null())), |text| json(&text).map(Some))
}
