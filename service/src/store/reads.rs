//! Reads whole records of tasks.

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;
use serde::de::IgnoredAny;

use super::{
    error::Result,
    link::{Link, on_engine},
    mend::mend,
    rows::{ErrorRow, Inputs, LabelRow, TaskRow, corrupt, count, from_json, group_labels, time},
    schema::{executors, task_errors, task_inputs, task_labels, task_results, tasks},
    transition,
};
use crate::domain::{
    attempt::{Failure, RecordedFailure},
    executor::Executor,
    json::JsonText,
    task::{Content, Task, TaskId},
};

/// The row of a task, made readable.
pub(super) fn row(link: &mut Link<'_>, id: TaskId) -> Result<Option<TaskRow>> {
    let mut row = stored_row(link, id)?;
    row.as_mut().map(mend);
    Ok(row)
}

/// The row of a task as it is stored.
pub(super) fn stored_row(link: &mut Link<'_>, id: TaskId) -> Result<Option<TaskRow>> {
    let query = tasks::table.filter(tasks::id.eq(id.0.as_bytes().to_vec()));
    Ok(on_engine!(link, c => query.select(TaskRow::as_select()).first(c).optional())?)
}

/// The whole record of a row. If a part of it cannot be read, an error in the record says so.
pub(super) fn record(link: &mut Link<'_>, mut row: TaskRow) -> Result<Task> {
    let executor = executor(link, row.now.executor_id)?;
    let flaw = mend(&mut row);
    let parts = parts(link, &[row.seq])?.remove(&row.seq).unwrap_or_default();
    let flaw = flaw.or_else(|| parts.flaw.clone());
    let return_value = return_value(link, &row)?;
    let mut task = assemble(row, parts, executor.as_ref(), return_value)?.task;
    task.errors.extend(flaw.and_then(|flaw| untold(&flaw, &task)));
    Ok(task)
}

/// The error that says what cannot be read: the task ends with it when it is claimed. `None` if the
/// record has it already.
fn untold(flaw: &str, task: &Task) -> Option<RecordedFailure> {
    let failure = Failure::unreadable(flaw);
    let told = task.errors.iter().any(|error| error.failure.message == failure.message);
    (!told).then_some(RecordedFailure {
        attempt: task.attempts,
        failure,
        at: task.times.finished_at.unwrap_or(task.times.enqueued_at),
    })
}

/// A record, and the part that only its executor gets.
pub(super) struct Record {
    pub(super) task: Task,
    pub(super) traceparent: Option<String>,
}

/// The parts of a task that other tables hold.
pub(super) struct Parts {
    args: JsonText,
    kwargs: JsonText,
    traceparent: Option<String>,
    labels: BTreeMap<String, String>,
    errors: Vec<RecordedFailure>,
    /// Which part of it cannot be read.
    pub(super) flaw: Option<String>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            args: JsonText::empty_array(),
            kwargs: JsonText::empty_object(),
            traceparent: None,
            labels: BTreeMap::new(),
            errors: Vec::new(),
            flaw: Some("no args".to_owned()),
        }
    }
}

impl Parts {
    fn new(inputs: Inputs) -> Self {
        let Inputs { args, kwargs, traceparent } = inputs;
        let mut parts = Self { traceparent, flaw: None, ..Self::default() };
        for (name, text, part) in
            [("args", args, &mut parts.args), ("kwargs", kwargs, &mut parts.kwargs)]
        {
            match json(&text) {
                Ok(json) => *part = json,
                Err(_not_json) => parts.flaw = Some(format!("{name} that cannot be read")),
            }
        }
        parts
    }
}

/// The parts of these tasks, by `seq`.
pub(super) fn parts(link: &mut Link<'_>, seqs: &[i64]) -> Result<HashMap<i64, Parts>> {
    if seqs.is_empty() {
        return Ok(HashMap::new());
    }
    let mut inputs = inputs_of(link, seqs)?;
    let mut labels = labels_of(link, seqs)?;
    let mut errors = errors_of(link, seqs)?;
    let part = |seq: &i64| {
        let mut parts = inputs.remove(seq).map_or_else(Parts::default, Parts::new);
        parts.labels = labels.remove(seq).unwrap_or_default();
        parts.errors = errors.remove(seq).unwrap_or_default();
        (*seq, parts)
    };
    Ok(seqs.iter().map(part).collect())
}

/// Puts a record together from a row that can be read and its parts.
pub(super) fn assemble(
    row: TaskRow,
    parts: Parts,
    executor: Option<&Executor>,
    return_value: Option<JsonText>,
) -> Result<Record> {
    let Parts { args, kwargs, traceparent, labels, errors, flaw: _ } = parts;
    let task = Task {
        id: transition::task_id(&row.id)?,
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
        errors,
        errors_dropped: count(row.errors_dropped),
        content: Content {
            options: row.options()?,
            run_after: run_after(&row)?,
            expires_at: super::rows::times(row.expires_at)?,
            task_path: row.task_path.parse().map_err(|_invalid| corrupt("a wrong task_path"))?,
            queue_name: row.queue_name.parse().map_err(|_invalid| corrupt("a wrong queue_name"))?,
            args,
            kwargs,
            priority: row.priority,
            labels,
            unique_key: row.unique_key,
        },
    };
    Ok(Record { task, traceparent })
}

fn inputs_of(link: &mut Link<'_>, seqs: &[i64]) -> Result<HashMap<i64, Inputs>> {
    let query = task_inputs::table.filter(task_inputs::task_seq.eq_any(seqs));
    let rows: Vec<(i64, Inputs)> = on_engine!(link, c => {
        query.select((task_inputs::task_seq, Inputs::as_select())).load(c)
    })?;
    Ok(rows.into_iter().collect())
}

/// The due time, if it is not the time of enqueuing.
pub(super) fn run_after(row: &TaskRow) -> Result<Option<crate::domain::Timestamp>> {
    (row.now.due_at != row.enqueued_at).then(|| time(row.now.due_at)).transpose()
}

fn json(text: &str) -> Result<JsonText> {
    from_json::<IgnoredAny>(text, "JSON")?;
    JsonText::from_valid(text).map_err(|_invalid| corrupt("JSON that is too deep"))
}

/// The executor with this id; `None` if it was deregistered or its row cannot be read.
pub(super) fn executor(link: &mut Link<'_>, id: Option<i64>) -> Result<Option<Executor>> {
    let Some(id) = id else {
        return Ok(None);
    };
    let row: Option<super::executor_row::ExecutorRow> =
        on_engine!(link, c => executors::table.find(id).first(c).optional())?;
    Ok(row.and_then(|row| Executor::try_from(row).ok()))
}

/// Whether there is an executor with this id, even if its row cannot be read.
pub(super) fn has_executor(link: &mut Link<'_>, id: Option<i64>) -> Result<bool> {
    let query = executors::table.filter(executors::id.nullable().eq(id)).select(executors::id);
    let found: Option<i64> = on_engine!(link, c => query.first(c).optional())?;
    Ok(found.is_some())
}

/// Labels of several tasks, by their `seq`.
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

/// The errors of several tasks, by their `seq`.
fn errors_of(link: &mut Link<'_>, seqs: &[i64]) -> Result<HashMap<i64, Vec<RecordedFailure>>> {
    let mut errors: HashMap<i64, Vec<RecordedFailure>> = HashMap::new();
    if seqs.is_empty() {
        return Ok(errors);
    }
    let query =
        task_errors::table.filter(task_errors::task_seq.eq_any(seqs)).order(task_errors::id);
    let rows: Vec<ErrorRow> = on_engine!(link, c => query.select(ErrorRow::as_select()).load(c))?;
    for row in rows {
        errors.entry(row.task_seq).or_default().push(row.into());
    }
    Ok(errors)
}

/// `Some` only for a SUCCESSFUL task, for which null is a value like others.
pub(super) fn return_value(link: &mut Link<'_>, row: &TaskRow) -> Result<Option<JsonText>> {
    if row.stage()? != crate::domain::state::Stage::Successful {
        return Ok(None);
    }
    let query = task_results::table.find(row.seq).select(task_results::return_value);
    let text: Option<String> = on_engine!(link, c => query.first(c).optional())?;
    let unreadable = |_not_json| corrupt("a return_value that cannot be read");
    text.map_or_else(
        || Ok(Some(JsonText::null())),
        |text| json(&text).map(Some).map_err(unreadable),
    )
}
