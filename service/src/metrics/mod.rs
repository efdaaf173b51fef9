//! What a process tells Prometheus of itself: counted where it happens, shown by `GET /metrics`.
//!
//! Counting costs a look into a map of a few entries, so it is done on every path. What only the
//! database knows, such as how much waits, is asked for when somebody looks.

mod catalogue;
mod families;
mod names;
mod observation;
mod process;

use std::{sync::Arc, time::Duration};

use prometheus_client::encoding::prometheus_text;

pub use self::{
    catalogue::{Entry, Kind},
    observation::{AttemptEnd, Observation, Place, outcome_name},
};
use self::{
    families::{Answered, Attempted, Families, Named, QueueState, Served, Worked},
    names::Names,
    process::Usage,
};
use crate::domain::Timestamp;

/// Queues, and likewise executors, that get a name of their own in one process; all others count as
/// `other`, so that whoever makes up names does not fill the memory of who collects.
pub const NAMES_MAX: usize = 100;

/// The content type of what Prometheus is sent.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The metrics of one process.
pub struct Metrics {
    families: Families,
    queues: Names,
    executors: Names,
}

/// What is found out when somebody looks.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub queues: Vec<QueueSnapshot>,
    pub executors: Vec<ExecutorSnapshot>,
    pub database_bytes: u64,
    pub dead_rows: u64,
    /// For how long a transaction has been open that keeps them.
    pub oldest_transaction: Duration,
}

/// What waits and runs in one queue.
#[derive(Clone, Debug, Default)]
pub struct QueueSnapshot {
    pub name: String,
    pub ready: u64,
    pub scheduled: u64,
    pub running: u64,
    pub paused: bool,
    /// For how long the oldest task has been able to run, if there is one.
    pub oldest: Option<Duration>,
}

/// How it goes with one executor.
#[derive(Clone, Debug)]
pub struct ExecutorSnapshot {
    pub name: String,
    /// Deliveries to it failed.
    pub held: bool,
    /// When a worker has asked for its tasks last, if one has.
    pub asked_at: Option<Timestamp>,
}

/// What this process knows of itself at the moment.
#[derive(Clone, Debug)]
pub struct Present {
    pub commands_waiting: usize,
    pub event_readers: usize,
    /// By what kind they are.
    pub plugin_calls_hanging: [(&'static str, usize); 2],
    /// By what kind they are: the bytes taken, and how many may be.
    pub payload_memory: [(&'static str, usize, usize); 3],
    pub database_usable: bool,
    /// Names of files and folders, and the bytes that are free on their disks.
    pub disks: Vec<(&'static str, u64)>,
}

impl Metrics {
    pub fn new() -> Self {
        let families = Families::new();
        families.build_info.get_or_create(&families::Build::this()).set(1);
        Self { families, queues: Names::default(), executors: Names::default() }
    }

    /// The service begins.
    pub(crate) fn begin(&self, now: Timestamp) {
        self.families.process.start_time.set(now.as_second());
    }

    /// The service shows a certificate that ends then.
    pub(crate) fn show_certificate(&self, ends: Timestamp) {
        self.families.certificate_expiry.set(ends.as_second());
    }

    /// All metrics that there are, in the order in which they are shown.
    pub fn catalogue() -> &'static [Entry] {
        catalogue::ALL
    }

    /// Counts what a committed transaction did.
    pub(crate) fn observe(&self, observations: &[Observation]) {
        for observation in observations {
            match observation {
                Observation::Told(kind) => {
                    self.families.events.get_or_create(&families::Kind { kind }).inc();
                }
                Observation::Started { place, wait } => {
                    let labels = self.worked(place);
                    self.families.task_wait.get_or_create(&labels).observe(wait.as_secs_f64());
                }
                Observation::Ended(end) => self.ended(end),
            }
        }
    }

    fn ended(&self, end: &AttemptEnd) {
        let labels = self.worked(&end.place);
        self.families.attempt_duration.get_or_create(&labels).observe(end.took.as_secs_f64());
        let executor = self.executors.bounded(&end.place.executor);
        let attempted = Attempted { executor, outcome: end.outcome };
        self.families.attempts.get_or_create(&attempted).inc();
    }

    fn worked(&self, place: &Place) -> Worked {
        Worked { queue: self.queues.bounded(&place.queue), executor_kind: place.executor_kind }
    }

    /// The writer committed so many commands at once.
    pub(crate) fn committed(&self, commands: usize, took: Duration) {
        self.families.batch_commands.observe(families::number(commands));
        self.families.commit_duration.observe(took.as_secs_f64());
    }

    /// A request was answered.
    pub(crate) fn answered(
        &self,
        method: &'static str,
        route: Option<String>,
        status: u16,
        took: Duration,
    ) {
        // What leads nowhere has as many paths as there are people who guess.
        let route = route.unwrap_or_else(|| "none".to_owned());
        let served = Served { method, route };
        self.families.request_duration.get_or_create(&served).observe(took.as_secs_f64());
        let Served { method, route } = served;
        self.families.requests.get_or_create(&Answered { method, route, status }).inc();
    }

    /// Counts a call of an executor, or a plugin's run, as long as the guard lives.
    pub(crate) fn call(self: &Arc<Self>, executor: &str) -> CallInFlight {
        let name = self.executors.bounded(executor);
        let labels = Named { executor: name };
        self.families.calls_in_flight.get_or_create(&labels).inc();
        CallInFlight { metrics: Arc::clone(self), labels }
    }

    /// Shows what was found out. A queue that had tasks once stays, with nothing in it: to rules and
    /// graphs, what is missing is not zero. An executor that is gone is shown no more.
    pub(crate) fn show(&self, snapshot: &Snapshot) {
        self.hide();
        for name in self.queues.known() {
            self.show_queue(&QueueSnapshot { name: name.to_string(), ..QueueSnapshot::default() });
        }
        for queue in &snapshot.queues {
            self.show_queue(queue);
        }
        let families = &self.families;
        families.database_size.set(i64::try_from(snapshot.database_bytes).unwrap_or(i64::MAX));
        families.dead_rows.set(i64::try_from(snapshot.dead_rows).unwrap_or(i64::MAX));
        families.oldest_transaction.set(snapshot.oldest_transaction.as_secs_f64());
        for executor in &snapshot.executors {
            self.show_executor(executor);
        }
    }

    /// Of executors without a name of their own, those that are held are added up, and the worker
    /// that asked last is shown.
    fn show_executor(&self, executor: &ExecutorSnapshot) {
        let labels = Named { executor: self.executors.bounded(&executor.name) };
        self.families.circuit_open.get_or_create(&labels).inc_by(i64::from(executor.held));
        if let Some(asked_at) = executor.asked_at {
            let seen = self.families.worker_seen.get_or_create(&labels);
            seen.set(seen.get().max(asked_at.as_second()));
        }
    }

    /// Shows nothing of what only the database knows.
    pub(crate) fn hide(&self) {
        self.families.queue_tasks.clear();
        self.families.queue_oldest.clear();
        self.families.queue_paused.clear();
        self.families.circuit_open.clear();
        self.families.worker_seen.clear();
        self.families.database_size.set(0);
        self.families.dead_rows.set(0);
        self.families.oldest_transaction.set(0.0);
    }

    /// Queues without a name of their own are added up; the oldest of all is the oldest.
    fn show_queue(&self, queue: &QueueSnapshot) {
        let families = &self.families;
        let name = self.queues.bounded(&queue.name);
        for (state, tasks) in
            [("ready", queue.ready), ("scheduled", queue.scheduled), ("running", queue.running)]
        {
            let labels = QueueState { queue: Arc::clone(&name), state };
            let tasks = i64::try_from(tasks).unwrap_or(i64::MAX);
            families.queue_tasks.get_or_create(&labels).inc_by(tasks);
        }
        let labels = families::Queue { queue: name };
        let paused = i64::from(queue.paused);
        families.queue_paused.get_or_create(&labels).inc_by(paused);
        let oldest = families.queue_oldest.get_or_create(&labels);
        let age = queue.oldest.unwrap_or_default().as_secs_f64();
        oldest.set(oldest.get().max(age));
    }

    /// All of it, in Prometheus' text format.
    pub(crate) fn text(&self, present: Present) -> Result<String, std::fmt::Error> {
        let families = &self.families;
        families.commands_waiting.set(families::whole(present.commands_waiting));
        families.event_readers.set(families::whole(present.event_readers));
        families.database_usable.set(i64::from(present.database_usable));
        for (kind, calls) in present.plugin_calls_hanging {
            let labels = families::Kind { kind };
            families.plugin_calls_hanging.get_or_create(&labels).set(families::whole(calls));
        }
        for (kind, taken, max) in present.payload_memory {
            let labels = families::Kind { kind };
            families.payload_memory.get_or_create(&labels).set(families::whole(taken));
            families.payload_memory_max.get_or_create(&labels).set(families::whole(max));
        }
        for (disk, free) in present.disks {
            let labels = families::Disk { disk };
            families.disk_free.get_or_create(&labels).set(i64::try_from(free).unwrap_or(i64::MAX));
        }
        // Without /proc nobody knows, and the metrics stay at 0.
        if let Ok(usage) = Usage::now() {
            families.process.show(usage);
        }
        let mut text = String::new();
        prometheus_text::encode(&mut text, &families.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A call that has not come back.
pub(crate) struct CallInFlight {
    metrics: Arc<Metrics>,
    labels: Named,
}

impl Drop for CallInFlight {
    fn drop(&mut self) {
        self.metrics.families.calls_in_flight.get_or_create(&self.labels).dec();
    }
}
