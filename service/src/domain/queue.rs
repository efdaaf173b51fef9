use std::collections::HashSet;

use super::{Invalid, Timestamp, limits::CONCURRENCY_MAX, names::QueueName};

/// What somebody set for a queue. One that nobody has touched has the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// Starts nothing while true; what runs goes on.
    pub paused: bool,
    /// How many of its tasks may run at once, over all executors; `None`: no limit.
    pub concurrency: Option<u32>,
}

/// Checks a concurrency from outside.
pub fn concurrency(number: i64) -> Result<u32, Invalid> {
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=CONCURRENCY_MAX).contains(number))
        .ok_or_else(|| Invalid::new("concurrency", format!("must be 1 to {CONCURRENCY_MAX}")))
}

/// Which queues a worker takes tasks from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueueFilter {
    /// Only these; `None`: all.
    pub only: Option<Vec<QueueName>>,
    /// But not these.
    pub except: Vec<QueueName>,
}

impl QueueFilter {
    /// Whether tasks of this queue are taken.
    pub fn passes(&self, name: &str) -> bool {
        let is = |other: &QueueName| other.as_str() == name;
        !self.except.iter().any(is) && self.only.as_ref().is_none_or(|only| only.iter().any(is))
    }

    /// The queues of `names` that pass.
    pub fn pass(&self, mut names: Vec<String>) -> Vec<String> {
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

/// A queue as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    pub name: String,
    pub settings: QueueSettings,
    /// READY tasks that are due.
    pub available: u64,
    /// READY tasks that are due later.
    pub scheduled: u64,
    pub running: u64,
    /// Since when the first of the due ones has been waiting.
    pub oldest_due_at: Option<Timestamp>,
}

impl QueueState {
    /// A queue in which nothing is.
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
