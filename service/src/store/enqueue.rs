//! Enqueues new tasks, and recognises those that an earlier request has enqueued.

use std::borrow::Cow;

use diesel::prelude::*;

use super::{
    dialect::{self, bulk},
    error::Result,
    link::on_engine,
    mend,
    rows::{Changing, InputRow, LabelRow, TaskRow, micros, options_columns},
    schema::{stage, task_inputs, tasks},
    transition,
    tx::Tx,
};
use crate::domain::{
    event::Change,
    executor::ExecutorId,
    names::ExecutorName,
    state::Stage,
    task::{NewTask, Repeat, Task, TaskId, Terms, first_stage},
};

/// The result for one task of a request.
#[derive(Clone, Debug)]
pub enum Enqueued {
    Created(Box<Task>),
    /// An earlier request has enqueued it, or a live task has its unique key. `same` says whether
    /// that task has the same content. Its record may be large, so it is read only by a caller that
    /// needs it.
    Existing {
        id: TaskId,
        same: bool,
    },
}

impl Enqueued {
    pub fn id(&self) -> TaskId {
        match self {
            Self::Created(task) => task.id,
            Self::Existing { id, .. } => *id,
        }
    }
}

/// Why a request was refused as a whole. Nothing of it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnqueueConflict {
    /// A task with other content has the id.
    Id { index: usize },
    /// A task with other content has the idempotency key.
    IdempotencyKey { index: usize },
    /// A live task that the caller may not see has the unique key.
    UniqueKey { index: usize },
}

pub type EnqueueAnswer = std::result::Result<Vec<Enqueued>, EnqueueConflict>;

/// Enqueues the tasks of each request: all of a request, or none.
pub(super) fn enqueue(tx: &mut Tx<'_>, requests: &[&Vec<NewTask>]) -> Result<Vec<EnqueueAnswer>> {
    let mut answers: Vec<Option<EnqueueAnswer>> = Vec::with_capacity(requests.len());
    // Requests whose tasks cannot be there already are inserted together. On PostgreSQL that is one
    // statement instead of many.
    let mut fresh: Vec<&NewTask> = Vec::new();
    for request in requests {
        if request.iter().any(may_be_known) {
            insert(tx, &std::mem::take(&mut fresh))?;
            answers.push(Some(enqueue_known(tx, request)?));
        } else {
            fresh.extend(request.iter());
            answers.push(None);
        }
    }
    insert(tx, &fresh)?;
    let created = |request: &&Vec<NewTask>| Ok(request.iter().map(|new| create(tx, new)).collect());
    Ok(answers
        .into_iter()
        .zip(requests)
        .map(|(answer, request)| answer.unwrap_or_else(|| created(request)))
        .collect())
}

fn may_be_known(new: &NewTask) -> bool {
    new.repeat.by_id() || new.repeat.key().is_some() || new.content.unique_key.is_some()
}

/// The executor that a task belongs to, and the terms of its attempts.
struct Place {
    executor: Option<ExecutorName>,
    executor_id: Option<i64>,
    terms: Terms,
}

fn place(tx: &Tx<'_>, new: &NewTask) -> Place {
    let content = &new.content;
    let path = content.task_path.as_str();
    let id = tx.registry.route(path);
    let executor = id.and_then(|id| tx.registry.get(id));
    Place {
        executor: executor.map(|executor| executor.registration.name.clone()),
        executor_id: id.map(|id| id.0),
        terms: content.options.resolve(executor.map(|e| e.defaults_for(path))),
    }
}

fn create(tx: &Tx<'_>, new: &NewTask) -> Enqueued {
    let place = place(tx, new);
    Enqueued::Created(Box::new(Task::fresh(new, tx.now, place.executor, place.terms)))
}

/// Enqueues one request of which some tasks may be there already, from before or from the same
/// request.
fn enqueue_known(tx: &mut Tx<'_>, request: &[NewTask]) -> Result<EnqueueAnswer> {
    let mut inserted: Vec<&NewTask> = Vec::new();
    let mut answers = Vec::with_capacity(request.len());
    for (index, new) in request.iter().enumerate() {
        if let Some(earlier) = said_before(&inserted, new) {
            let same =
                earlier.id != new.id || earlier.content.fingerprint() == new.content.fingerprint();
            match same_or_conflict(index, new, same) {
                Err(conflict) => return Ok(Err(conflict)),
                Ok(()) => answers.push(Enqueued::Existing { id: earlier.id, same }),
            }
            continue;
        }
        match find(tx, new)? {
            None => {
                inserted.push(new);
                answers.push(create(tx, new));
            }
            Some(Known::Said { id, same }) => match same_or_conflict(index, new, same) {
                Err(conflict) => return Ok(Err(conflict)),
                Ok(()) => answers.push(Enqueued::Existing { id, same }),
            },
            Some(Known::Live { queue_name, .. }) if !new.may_show(&queue_name) => {
                return Ok(Err(EnqueueConflict::UniqueKey { index }));
            }
            Some(Known::Live { id, .. }) => {
                answers.push(Enqueued::Existing { id, same: false });
            }
        }
    }
    // Another process may have stored the same id or key since `find` looked. A unique index
    // refuses that, and the writer tries the command again, which then finds that task.
    insert(tx, &inserted)?;
    Ok(Ok(answers))
}

/// An earlier task of the same request with the same id or the same unique key.
fn said_before<'a>(earlier: &[&'a NewTask], new: &NewTask) -> Option<&'a NewTask> {
    earlier.iter().copied().find(|old| {
        old.id == new.id
            || (new.content.unique_key.is_some()
                && old.content.unique_key == new.content.unique_key)
    })
}

fn same_or_conflict(
    index: usize,
    new: &NewTask,
    same: bool,
) -> std::result::Result<(), EnqueueConflict> {
    if same {
        return Ok(());
    }
    match new.repeat {
        Repeat::ByKey(_) | Repeat::ByIdAndKey(_) => Err(EnqueueConflict::IdempotencyKey { index }),
        Repeat::ById => Err(EnqueueConflict::Id { index }),
        // Only the unique key is the same: the live task is the answer, whatever it holds.
        Repeat::Never => Ok(()),
    }
}

enum Known {
    /// An earlier task has the id or the idempotency key.
    Said { id: TaskId, same: bool },
    /// A live task has the unique key.
    Live { id: TaskId, queue_name: String },
}

fn find(tx: &mut Tx<'_>, new: &NewTask) -> Result<Option<Known>> {
    let fingerprint = new.content.fingerprint();
    let said = |(id, stored): (Vec<u8>, Option<Vec<u8>>)| {
        let same = stored.as_deref() == Some(&fingerprint);
        Ok(Some(Known::Said { id: readable(id)?, same }))
    };
    let with_fingerprint =
        tasks::table.inner_join(task_inputs::table).select((tasks::id, task_inputs::fingerprint));
    if let Some(key) = new.repeat.key() {
        let by_key = with_fingerprint
            .filter(tasks::idempotency_key.eq(key))
            .filter(tasks::queue_name.eq(new.content.queue_name.as_str()));
        let found = on_engine!(&mut tx.link, c => by_key.first(c).optional())?;
        if let Some(found) = found {
            return said(found);
        }
    }
    if new.repeat.by_id() {
        let by_id = with_fingerprint.filter(tasks::id.eq(new.id.0.as_bytes().to_vec()));
        let found = on_engine!(&mut tx.link, c => by_id.first(c).optional())?;
        if let Some(found) = found {
            return said(found);
        }
    }
    let Some(unique_key) = &new.content.unique_key else {
        return Ok(None);
    };
    let live = tasks::table
        .filter(tasks::unique_key.eq(unique_key))
        .filter(stage::is_live())
        .select((tasks::id, tasks::queue_name));
    let found: Option<(Vec<u8>, String)> = on_engine!(&mut tx.link, c => live.first(c).optional())?;
    let live =
        |(id, queue_name): (Vec<u8>, String)| Ok(Known::Live { id: readable(id)?, queue_name });
    found.map(live).transpose()
}

/// A stored id, mended where it cannot be read, as records show it.
fn readable(mut id: Vec<u8>) -> Result<TaskId> {
    mend::id(&mut id);
    transition::task_id(&id)
}

fn insert(tx: &mut Tx<'_>, new: &[&NewTask]) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let seqs = dialect::reserve_seqs(&mut tx.link, new.len())?;
    let mut rows = Vec::with_capacity(new.len());
    let mut inputs = Vec::with_capacity(new.len());
    let mut labels = Vec::new();
    for (seq, new) in seqs.into_iter().zip(new) {
        rows.push(task_row(tx, seq, new)?);
        inputs.push(InputRow {
            task_seq: seq,
            args: Cow::Borrowed(new.content.args.as_str()),
            kwargs: Cow::Borrowed(new.content.kwargs.as_str()),
            fingerprint: may_be_known(new).then(|| new.content.fingerprint().to_vec()),
            traceparent: new.traceparent.as_deref(),
        });
        labels.extend(new.content.labels.iter().map(|(key, value)| LabelRow {
            task_seq: seq,
            key: key.clone(),
            value: value.clone(),
        }));
    }
    bulk::insert_tasks(&mut tx.link, &rows, &inputs, &labels)?;
    for (row, new) in rows.iter_mut().zip(new) {
        tx.floors.note(row, tx.now);
        tx.tell(row, &Change::Enqueued { run_after: new.content.run_after })?;
    }
    Ok(())
}

fn task_row(tx: &mut Tx<'_>, seq: i64, new: &NewTask) -> Result<TaskRow> {
    let content = &new.content;
    let due_at = content.run_after.unwrap_or(tx.now);
    let stage = first_stage(due_at, tx.now);
    if stage == Stage::Scheduled {
        tx.effects.sweep_by(due_at);
    }
    if let Some(expires_at) = content.expires_at {
        tx.effects.sweep_by(expires_at);
    }
    let executor_id = place(tx, new).executor_id;
    if stage == Stage::Available {
        tx.work_for(executor_id.map(ExecutorId));
    }
    let TaskId(id) = new.id;
    let (timeout_us, max_attempts, backoff) = options_columns(&content.options)?;
    Ok(TaskRow {
        seq,
        id: id.as_bytes().to_vec(),
        task_path: content.task_path.as_str().to_owned(),
        queue_name: content.queue_name.as_str().to_owned(),
        priority: content.priority,
        enqueued_at: micros(tx.now),
        expires_at: content.expires_at.map(micros),
        timeout_us,
        max_attempts,
        backoff,
        unique_key: content.unique_key.clone(),
        idempotency_key: new.repeat.key().map(str::to_owned),
        errors_dropped: 0,
        now: Changing::waiting(stage, executor_id, micros(due_at)),
    })
}

impl Changing {
    /// The changing columns of a task of which no attempt was made yet.
    fn waiting(stage: Stage, executor_id: Option<i64>, due_at: i64) -> Self {
        Self {
            stage: stage as i16,
            executor_id,
            due_at,
            attempts: 0,
            attempts_before: 0,
            deliveries: 0,
            worker_ids: "[]".to_owned(),
            lease_secret: None,
            lease_renewed_at: None,
            lease_expires_at: None,
            deadline_at: None,
            detached: false,
            started_at: None,
            last_attempted_at: None,
            finished_at: None,
            cancel_requested_at: None,
            progress_fraction: None,
            progress_message: None,
            history: String::new(),
        }
    }
}
