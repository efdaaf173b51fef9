//! Queues: their settings and present state, and the filter by which workers choose between them.

use std::collections::HashSet;

use super::{Invalid, Timestamp, limits::CONCURRENCY_MAX, names::QueueName};

/// The settings of a queue. A queue that was never set has the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// While true, no task of the queue starts; running ones go on.
    pub paused: bool,
    /// How many tasks of the queue may run at once, over all executors. `None`: no limit.
    pub concurrency: Option<u32>,
}

/// Checks a concurrency that came from outside: 1 to `CONCURRENCY_MAX`.
pub fn concurrency(number: i64) -> Result<u32, Invalid> {
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=CONCURRENCY_MAX).contains(number))
        .ok_or_else(|| Invalid::new("concurrency", format!("must be 1 to {CONCURRENCY_MAX}")))
}

/// The queues from which a worker takes tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueueFilter {
    /// Take tasks from these queues only. `None`: from all.
    pub only: Option<Vec<QueueName>>,
    /// Take no tasks from these queues.
    pub except: Vec<QueueName>,
}

impl QueueFilter {
    /// Whether the worker takes tasks from the queue `name`.
    pub fn passes(&self, name: &str) -> bool {
        let is = |other: &QueueName| other.as_str() == name;
        !self.except.iter().any(is) && self.only.as_ref().is_none_or(|only| only.iter().any(is))
    }

    /// Those of `names` from which the worker takes tasks.
    pub fn pass(&self, mut names: Vec<String>) -> Vec<String> {
        // By sets, since both lists may be long.
        let set = |names: &[QueueName]| -> HashSet<String> {
            names.iter().map(|name| name.as_str().to_owned()).collect()
        };
        let except = set(&self.except);
        let only = self.only.as_deref().map(set);
        names.retain(|name| {
            !except.contains(name) && only.as_ref().is_none_or(|only| only.contains(name))
        });
        names
    }
}

/// A queue in its present state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    pub name: String,
    pub settings: QueueSettings,
    /// READY tasks that are due.
    pub available: u64,
    /// READY tasks that are due later.
    pub scheduled: u64,
    pub running: u64,
    /// The time at which its first due task became due.
    pub oldest_due_at: Option<Timestamp>,
}

impl QueueState {
    /// An empty queue with default settings.
    pub fn new(name: String) -> Self {
        Self {
            name,
            settings: QueueSettings::default(),
            available: 0,
            scheduled: 0,
            running: 0,
            oldest_due_at: None,
        }
    }
}
