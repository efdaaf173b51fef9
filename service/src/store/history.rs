//! Puts the events of one task together, from its row, its errors and its log.
//!
//! Nothing else is stored for that, so it can be told from the beginning for as long as the task is
//! kept.

use std::pin::pin;

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{
    Store,
    error::Result,
    feed::POLL,
    link::Link,
    logs, reads,
    rows::{TaskRow, time, times},
};
use crate::domain::{
    Timestamp,
    attempt::{Failure, LogLine, Progress, RecordedFailure},
    event::{Change, TaskEvent, TaskPlace},
    history::{History, Step, StepKind},
    limits::LOG_PIECE_BYTES_MAX,
    state::Stage,
    task::TaskId,
};

/// How many log lines are read at once.
const LOG_LINES: u32 = 500;

/// The events of a task since a place.
#[derive(Debug)]
pub struct TaskNews {
    /// In their order, each with the place after it.
    pub events: Vec<(TaskPlace, TaskEvent)>,
    /// Something that happened before these events is not kept any more.
    pub missed: bool,
    /// The task has ended, and there is no more to tell.
    pub ended: bool,
}

/// A watcher of one task.
pub struct TaskWatch {
    store: Store,
    id: TaskId,
    /// Keeps the loop going, which says when the task has changed.
    _follower: watch::Receiver<()>,
}

impl TaskWatch {
    pub(super) fn open(store: Store, id: TaskId) -> Self {
        Self { _follower: store.feed.follow(), store, id }
    }

    /// The events since `place`, once there is something to tell or the task has ended; `None` if
    /// there is no such task.
    pub async fn next(&self, place: TaskPlace) -> Result<Option<TaskNews>> {
        let ending = self.store.signals.ending(self.id);
        loop {
            // Registered before the task is read, so that a change in between is not missed.
            let mut changed = pin!(ending.notified());
            changed.as_mut().enable();
            match self.store.task_news(self.id, place).await? {
                Some(news) if news.events.is_empty() && !news.ended && !news.missed => {}
                news => return Ok(news),
            }
            tokio::select! {
                () = changed => {}
                () = self.store.clock.sleep(POLL) => {}
            }
        }
    }
}

/// The events after `place`; `None` if there is no such task.
pub(super) fn since(link: &mut Link<'_>, id: TaskId, place: TaskPlace) -> Result<Option<TaskNews>> {
    // The row is read first. If it shows the end of an attempt, the log, which is read later, has
    // all lines of that attempt.
    let Some(row) = reads::row(link, id)? else {
        return Ok(None);
    };
    let history = history(&row)?;
    let (place, missed) = valid(place, &history);
    let portion = logs::Portion { lines: LOG_LINES, bytes: LOG_PIECE_BYTES_MAX };
    let lines = logs::lines(link, row.seq, place.log, portion)?;
    let errors = reads::errors(link, row.seq)?;
    let missed = missed || (place.log == 0 && logs::dropped(link, row.seq)? > 0);
    let mut telling = Telling { row: &row, errors: &errors, place, events: Vec::new(), id };
    let told_all = telling.tell(&history, &lines)?;
    Ok(Some(TaskNews {
        missed,
        ended: told_all && row.stage()?.is_finished(),
        events: telling.events,
    }))
}

/// The steps of a row. A row from before histories were stored has none, so its times stand in.
fn history(row: &TaskRow) -> Result<History> {
    // A history that cannot be read counts as forgotten.
    let mut history = History::parse(&row.now.history).unwrap_or_default();
    let attempt = row.attempt();
    if history.steps.is_empty()
        && let Some(at) = times(row.now.last_attempted_at)?
    {
        history.steps.push(Step { kind: StepKind::Started, attempt, at });
    }
    let ended = history.steps.last().is_some_and(|step| matches!(step.kind, StepKind::Ended(_)));
    if !ended && let Some(at) = times(row.now.finished_at)? {
        history.steps.push(Step { kind: StepKind::Ended(row.stage()?), attempt, at });
    }
    Ok(history)
}

/// The place to tell from, and whether something before it is gone. A place that this task cannot
/// have reached belongs to another one.
fn valid(place: TaskPlace, history: &History) -> (TaskPlace, bool) {
    let all = 1 + history.dropped + history.steps.len() as u64;
    if place.steps > all {
        return (TaskPlace::default(), true);
    }
    if place.steps > history.dropped || history.dropped == 0 {
        return (place, false);
    }
    (TaskPlace { steps: place.steps.min(1), ..place }, true)
}

struct Telling<'a> {
    id: TaskId,
    row: &'a TaskRow,
    errors: &'a [RecordedFailure],
    place: TaskPlace,
    events: Vec<(TaskPlace, TaskEvent)>,
}

impl Telling<'_> {
    /// Adds the events, and returns whether there is nothing more to tell.
    fn tell(&mut self, history: &History, log: &logs::Lines) -> Result<bool> {
        if self.place.steps == 0 {
            self.place.steps = 1;
            let change = Change::Enqueued { run_after: self.first_run_after(history)? };
            self.push(Stage::Available, 0, time(self.row.enqueued_at)?, change);
        }
        self.place.steps = self.place.steps.max(1 + history.dropped);
        let seen = usize::try_from(self.place.steps - 1 - history.dropped).unwrap_or(usize::MAX);
        let mut lines = log.lines.as_slice();
        for (index, step) in history.steps.iter().enumerate().skip(seen) {
            if step.kind.ends_attempt() {
                // The lines of an attempt come before its end.
                let end = lines.iter().take_while(|(_, line)| line.attempt <= step.attempt).count();
                let (of_attempt, later) = lines.split_at(end);
                self.log(of_attempt);
                lines = later;
                if lines.is_empty() && log.more {
                    return Ok(false);
                }
            }
            self.place.steps += 1;
            self.step(*step, index + 1 == history.steps.len())?;
        }
        self.log(lines);
        self.progress()?;
        Ok(!log.more)
    }

    fn first_run_after(&self, history: &History) -> Result<Option<Timestamp>> {
        let waits = history.steps.is_empty() && self.row.now.due_at > self.row.enqueued_at;
        waits.then(|| time(self.row.now.due_at)).transpose()
    }

    fn step(&mut self, step: Step, is_last: bool) -> Result<()> {
        let run_after = if is_last { Some(time(self.row.now.due_at)?) } else { None };
        let (stage, change) = match step.kind {
            StepKind::Started => {
                self.place.progress = 0;
                (Stage::Running, Change::Started { worker_id: self.worker_id(step.attempt)? })
            }
            StepKind::AttemptFailed => {
                let failure = self.failure(step);
                (Stage::Available, Change::AttemptFailed { failure, run_after })
            }
            StepKind::Released => {
                let run_after = run_after.filter(|due_at| *due_at > step.at);
                (Stage::Available, Change::Released { run_after })
            }
            StepKind::CancelRequested => (Stage::Running, Change::CancelRequested),
            StepKind::Ended(stage) => (stage, Change::Ended { failure: self.failure(step) }),
            StepKind::Retried => (Stage::Available, Change::Retried),
        };
        self.push(stage, step.attempt, step.at, change);
        Ok(())
    }

    fn worker_id(&self, attempt: u32) -> Result<Option<String>> {
        // The last id is that of the last attempt; the first ones may have been left out.
        let Some(later) = self.row.attempt().checked_sub(attempt) else {
            return Ok(None);
        };
        let later = usize::try_from(later).unwrap_or(usize::MAX);
        Ok(self.row.worker_ids()?.into_iter().rev().nth(later))
    }

    fn failure(&self, step: Step) -> Option<Failure> {
        self.errors
            .iter()
            .find(|error| error.attempt == step.attempt && error.at == step.at)
            .map(|error| error.failure.brief())
    }

    /// Adds an event for the lines of each attempt.
    fn log(&mut self, lines: &[(i64, LogLine)]) {
        for lines in lines.chunk_by(|(_, a), (_, b)| a.attempt == b.attempt) {
            let Some((id, last)) = lines.last() else { continue };
            self.place.log = *id;
            let change = Change::Log(lines.iter().map(|(_, line)| line.clone()).collect());
            self.push(Stage::Running, last.attempt, last.at, change);
        }
    }

    /// Adds an event for the latest progress. Earlier progress is not stored.
    fn progress(&mut self) -> Result<()> {
        let Some(progress) = self.row.progress() else { return Ok(()) };
        let name = name_of(&progress);
        if self.row.stage()? != Stage::Running || name == self.place.progress {
            return Ok(());
        }
        self.place.progress = name;
        let at = time(self.row.now.lease_renewed_at.unwrap_or(self.row.enqueued_at))?;
        self.push(Stage::Running, self.row.attempt(), at, Change::Progress(progress));
        Ok(())
    }

    fn push(&mut self, stage: Stage, attempt: u32, at: Timestamp, change: Change) {
        let event = TaskEvent {
            task_id: self.id,
            task_path: self.row.task_path.clone(),
            queue_name: self.row.queue_name.clone(),
            stage,
            attempt,
            at,
            change,
        };
        self.events.push((self.place, event));
    }
}

/// A number for a progress, by which a place says that it was seen. Another progress has the same
/// number only by chance.
fn name_of(progress: &Progress) -> u32 {
    let text = format!("{:?} {:?}", progress.fraction, progress.message);
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(4).fold(0, |name, byte| name << 8 | u32::from(*byte)).max(1)
}
