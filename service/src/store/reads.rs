//! Reads tasks whole.

use std::collections::{BTreeMap, HashMap};

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

/// The row at a place.
pub(super) fn row_at(link: &mut Link<'_>, seq: i64) -> Result<Option<TaskRow>> {
    let query = tasks::table.find(seq);
    Ok(on_engine!(link, c => query.select(TaskRow::as_select()).first(c).optional())?)
}

/// The whole record of a row.
pub(super) fn record(link: &mut Link<'_>, row: TaskRow) -> Result<Task> {
    let executor = executor(link, row.now.executor_id)?;
    let records = records(link, vec![row], |_| executor.as_ref())?;
    records.into_iter().next().map(|record| record.task).ok_or_else(|| corrupt("no record"))
}

/// A record, and what only the executor is told.
pub(super) struct Record {
    pub(super) task: Task,
    pub(super) traceparent: Option<String>,
}

/// The whole records of rows, in their order.
pub(super) fn records<'e>(
    link: &mut Link<'_>,
    rows: Vec<TaskRow>,
    executor: impl Fn(i64) -> Option<&'e Executor>,
) -> Result<Vec<Record>> {
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    let mut inputs = inputs_of(link, &seqs)?;
    let mut labels = labels_of(link, &seqs)?;
    let mut errors = errors_of(link, &seqs)?;
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let seq = row.seq;
        let inputs = inputs.remove(&seq).ok_or_else(|| corrupt("a task without inputs"))?;
        let executor = row.now.executor_id.and_then(&executor);
        let return_value = return_value(link, &row)?;
        let task = Task {
            id: transition::task_id(&row)?,
            stage: row.stage()?,
            terms: row.options()?.resolve(executor.map(|e| e.defaults_for(&row.task_path))),
            executor: executor.map(|executor| executor.registration.name.clone()),
            attempts: count(row.now.attempts),
            deliveries: count(row.now.deliveries),
            worker_ids: row.worker_ids()?,
            due_at: time(row.now.due_at)?,
            times: row.times()?,
            lease: row.lease()?,
            progress: row.progress(),
            return_value,
            errors: errors.remove(&seq).unwrap_or_default(),
            errors_dropped: count(row.errors_dropped),
            content: content(row, &inputs, labels.remove(&seq).unwrap_or_default())?,
        };
        records.push(Record { task, traceparent: inputs.traceparent });
    }
    Ok(records)
}

fn inputs_of(link: &mut Link<'_>, seqs: &[i64]) -> Result<HashMap<i64, Inputs>> {
    let query = task_inputs::table.filter(task_inputs::task_seq.eq_any(seqs));
    let rows: Vec<(i64, Inputs)> = on_engine!(link, c => {
        query.select((task_inputs::task_seq, Inputs::as_select())).load(c)
    })?;
    Ok(rows.into_iter().collect())
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

pub(super) fn errors(link: &mut Link<'_>, seq: i64) -> Result<Vec<RecordedFailure>> {
    Ok(errors_of(link, &[seq])?.remove(&seq).unwrap_or_default())
}

/// The errors of several tasks, by their places.
fn errors_of(link: &mut Link<'_>, seqs: &[i64]) -> Result<HashMap<i64, Vec<RecordedFailure>>> {
    let mut errors: HashMap<i64, Vec<RecordedFailure>> = HashMap::new();
    if seqs.is_empty() {
        return Ok(errors);
    }
    let query =
        task_errors::table.filter(task_errors::task_seq.eq_any(seqs)).order(task_errors::id);
    let rows: Vec<ErrorRow> = on_engine!(link, c => query.select(ErrorRow::as_select()).load(c))?;
    for row in rows {
        errors.entry(row.task_seq).or_default().push(row.try_into()?);
    }
    Ok(errors)
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
