//! Tasks: [`NewTask`] is a checked request to enqueue one, [`Task`] the full record of one, and
//! [`TaskSummary`] its entry in a list.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Invalid, Timestamp,
    attempt::{Progress, RecordedFailure},
    json::JsonText,
    limits::{
        ATTEMPTS_MAX, LABEL_KEY_CHARS_MAX, LABEL_VALUE_CHARS_MAX, LABELS_MAX, NAME_CHARS_MAX,
        PRIORITY_MAX, PRIORITY_MIN,
    },
    names::{ExecutorName, QueueName, TaskPath},
    retry::Backoff,
    state::Stage,
};

/// Names a task. It is unique for all time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub Uuid);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the attempts of a task are made, as far as the task, its executor or its plugin sets it. An
/// option that is not set is taken from the next of these, and finally from the service's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    pub timeout: Option<Duration>,
    pub max_attempts: Option<u32>,
    pub backoff: Option<Backoff>,
}

impl Options {
    pub const MAX_ATTEMPTS_DEFAULT: u32 = 3;
    pub const TIMEOUT_DEFAULT: Duration = Duration::from_mins(5);

    /// The options that apply: the task's own, else its executor's, else the service's.
    pub fn resolve(self, executor: Option<Self>) -> Terms {
        let Self { timeout, max_attempts, backoff } = self.or(executor.unwrap_or_default());
        Terms {
            timeout: timeout.unwrap_or(Self::TIMEOUT_DEFAULT),
            max_attempts: max_attempts.unwrap_or(Self::MAX_ATTEMPTS_DEFAULT),
            backoff: backoff.unwrap_or_default(),
        }
    }

    /// These options, with those of `next` where one is not set.
    #[must_use]
    pub fn or(self, next: Self) -> Self {
        Self {
            timeout: self.timeout.or(next.timeout),
            max_attempts: self.max_attempts.or(next.max_attempts),
            backoff: self.backoff.or(next.backoff),
        }
    }
}

/// Options that are all set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    pub timeout: Duration,
    pub max_attempts: u32,
    pub backoff: Backoff,
}

/// A checked request to enqueue a task.
#[derive(Clone, Debug)]
pub struct NewTask {
    pub id: TaskId,
    pub content: Content,
    /// How a repetition of this request is recognised, so that it does not enqueue a second task.
    pub repeat: Repeat,
    /// The W3C trace context of the request.
    pub traceparent: Option<String>,
    /// The queues whose tasks the caller may read. `None`: all.
    pub visible: Option<Arc<[QueueName]>>,
}

impl NewTask {
    /// Whether the caller may read a task in this queue. Asked if the task of a repeated request
    /// exists.
    pub fn may_show(&self, queue_name: &str) -> bool {
        let is = |name: &QueueName| name.as_str() == queue_name;
        self.visible.as_ref().is_none_or(|names| names.iter().any(is))
    }

    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.content.args.as_str().len() + self.content.kwargs.as_str().len()
    }
}

/// The task as the caller described it. Two requests with equal content are the same request.
#[derive(Clone, Debug)]
pub struct Content {
    pub task_path: TaskPath,
    pub args: JsonText,
    pub kwargs: JsonText,
    pub queue_name: QueueName,
    pub priority: i16,
    pub run_after: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub options: Options,
    pub labels: BTreeMap<String, String>,
    pub unique_key: Option<String>,
}

/// By what a repeated request is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// By nothing: the service chose the id, so each request is a new task.
    Never,
    /// By the id, which the caller chose.
    ById,
    /// By the `Idempotency-Key` that the caller sent.
    ByKey(String),
    /// By both.
    ByIdAndKey(String),
}

impl Repeat {
    pub fn new(id_chosen: bool, key: Option<String>) -> Self {
        match (id_chosen, key) {
            (false, None) => Self::Never,
            (true, None) => Self::ById,
            (false, Some(key)) => Self::ByKey(key),
            (true, Some(key)) => Self::ByIdAndKey(key),
        }
    }

    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Never | Self::ById => None,
            Self::ByKey(key) | Self::ByIdAndKey(key) => Some(key),
        }
    }

    pub fn by_id(&self) -> bool {
        match self {
            Self::Never | Self::ByKey(_) => false,
            Self::ById | Self::ByIdAndKey(_) => true,
        }
    }
}

impl Content {
    /// A digest of the content, to see whether two requests are the same. It must stay the same
    /// from version to version, since it is stored.
    ///
    /// Each part is preceded by its length, so that different contents cannot produce the same
    /// bytes. A part that is left out is written with the length `u64::MAX`.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |text: Option<&str>| {
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            hash.update(length.to_be_bytes());
            hash.update(text.unwrap_or_default().as_bytes());
        };
        for text in [
            self.task_path.as_str(),
            self.args.as_str(),
            self.kwargs.as_str(),
            self.queue_name.as_str(),
            &self.priority.to_string(),
        ] {
            part(Some(text));
        }
        let Options { timeout, max_attempts, backoff } = self.options;
        for text in [
            self.unique_key.clone(),
            self.run_after.map(|at| at.as_microsecond().to_string()),
            self.expires_at.map(|at| at.as_microsecond().to_string()),
            timeout.map(|timeout| timeout.as_micros().to_string()),
            max_attempts.map(|attempts| attempts.to_string()),
            backoff.map(|b| {
                let (initial, max) = (b.initial.as_micros(), b.max.as_micros());
                format!("{initial} {} {max} {}", b.factor, b.jitter)
            }),
        ] {
            part(text.as_deref());
        }
        for (key, value) in &self.labels {
            part(Some(key));
            part(Some(value));
        }
        hash.finalize().into()
    }
}

/// Checks a priority from outside.
pub fn priority(number: i64) -> Result<i16, Invalid> {
    i16::try_from(number)
        .ok()
        .filter(|priority| (PRIORITY_MIN..=PRIORITY_MAX).contains(priority))
        .ok_or_else(|| {
            let reason =
                format!("must be a whole number between {PRIORITY_MIN} and {PRIORITY_MAX}");
            Invalid::new("priority", reason)
        })
}

/// Checks a number of attempts from outside.
pub fn max_attempts(number: i64) -> Result<u32, Invalid> {
    u32::try_from(number)
        .ok()
        .filter(|attempts| (1..=ATTEMPTS_MAX).contains(attempts))
        .ok_or_else(|| Invalid::new("max_attempts", format!("must be 1 to {ATTEMPTS_MAX}")))
}

/// Checks a key from outside: 1 to `NAME_CHARS_MAX` characters, none of them a control character.
pub fn key(field: &'static str, text: String) -> Result<String, Invalid> {
    let count = text.chars().count();
    if count == 0 || count > NAME_CHARS_MAX || text.chars().any(char::is_control) {
        let reason = format!("needs 1 to {NAME_CHARS_MAX} characters and no control characters");
        return Err(Invalid::new(field, reason));
    }
    Ok(text)
}

/// Checks labels from outside: their number, and the length and characters of keys and values.
pub fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Invalid> {
    if labels.len() > LABELS_MAX {
        return Err(Invalid::new("labels", format!("has more than {LABELS_MAX} entries")));
    }
    for (key, value) in &labels {
        let chars = key.chars().count();
        if chars == 0 || chars > LABEL_KEY_CHARS_MAX || key.contains('=') {
            let reason = format!("keys need 1 to {LABEL_KEY_CHARS_MAX} characters and no '='");
            return Err(Invalid::new("labels", reason));
        }
        if value.chars().count() > LABEL_VALUE_CHARS_MAX {
            let reason = format!("values have at most {LABEL_VALUE_CHARS_MAX} characters");
            return Err(Invalid::new("labels", reason));
        }
        if key.chars().chain(value.chars()).any(char::is_control) {
            return Err(Invalid::new("labels", "must not hold control characters"));
        }
    }
    Ok(labels)
}

/// The full record of a task.
#[derive(Clone, Debug)]
pub struct Task {
    pub id: TaskId,
    pub stage: Stage,
    pub content: Content,
    pub terms: Terms,
    pub executor: Option<ExecutorName>,
    pub attempts: u32,
    pub deliveries: u32,
    pub worker_ids: Vec<String>,
    /// When a waiting task becomes due, or became due.
    pub due_at: Timestamp,
    pub times: Times,
    pub lease: Option<LeaseTimes>,
    pub progress: Option<Progress>,
    pub return_value: Option<JsonText>,
    pub errors: Vec<RecordedFailure>,
    /// How many older errors are not kept.
    pub errors_dropped: u32,
}

impl Task {
    /// The record of a task that has just been enqueued.
    pub fn fresh(
        new: &NewTask,
        enqueued_at: Timestamp,
        executor: Option<ExecutorName>,
        terms: Terms,
    ) -> Self {
        let due_at = new.content.run_after.unwrap_or(enqueued_at);
        Self {
            id: new.id,
            stage: first_stage(due_at, enqueued_at),
            content: new.content.clone(),
            terms,
            executor,
            attempts: 0,
            deliveries: 0,
            worker_ids: Vec::new(),
            due_at,
            times: Times::enqueued(enqueued_at),
            lease: None,
            progress: None,
            return_value: None,
            errors: Vec::new(),
            errors_dropped: 0,
        }
    }
}

/// The stage of a task that begins to wait: available if it is due, else scheduled.
pub fn first_stage(due_at: Timestamp, now: Timestamp) -> Stage {
    if due_at <= now { Stage::Available } else { Stage::Scheduled }
}

/// When things happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub enqueued_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub last_attempted_at: Option<Timestamp>,
    pub cancel_requested_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

impl Times {
    pub fn enqueued(enqueued_at: Timestamp) -> Self {
        Self {
            enqueued_at,
            started_at: None,
            last_attempted_at: None,
            cancel_requested_at: None,
            finished_at: None,
        }
    }
}

/// The times of a running attempt's lease, as the record shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    pub renewed_at: Timestamp,
    pub expires_at: Timestamp,
}

/// A task in a list.
#[derive(Clone, Debug)]
pub struct TaskSummary {
    pub id: TaskId,
    pub stage: Stage,
    pub task_path: String,
    pub queue_name: String,
    pub priority: i16,
    pub due_at: Timestamp,
    pub labels: BTreeMap<String, String>,
    pub executor: Option<String>,
    pub attempts: u32,
    pub enqueued_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}
