//! The metrics as the library keeps them, and their labels.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};

use super::{
    catalogue::{self, Entry},
    process::Usage,
};

/// From what an idle service takes to what nobody should wait for.
const TASK_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0];
/// Up to the longest wait that may be asked for.
const REQUEST_SECONDS: [f64; 11] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0, 60.0];
const COMMIT_SECONDS: [f64; 12] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Up to as many as one transaction takes.
const BATCH_COMMANDS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Build {
    version: &'static str,
}

impl Build {
    pub(super) fn this() -> Self {
        Self { version: env!("CARGO_PKG_VERSION") }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct QueueState {
    pub(super) queue: Arc<str>,
    pub(super) state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Queue {
    pub(super) queue: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Worked {
    pub(super) queue: Arc<str>,
    pub(super) executor_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Attempted {
    pub(super) executor: Arc<str>,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Named {
    pub(super) executor: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Kind {
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Disk {
    pub(super) disk: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Served {
    pub(super) method: &'static str,
    pub(super) route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Answered {
    pub(super) method: &'static str,
    pub(super) route: String,
    pub(super) status: u16,
}

pub(super) struct Families {
    pub(super) registry: Registry,
    pub(super) build_info: Family<Build, Gauge>,
    pub(super) queue_tasks: Family<QueueState, Gauge>,
    pub(super) queue_oldest: Family<Queue, Gauge<f64, AtomicU64>>,
    pub(super) queue_paused: Family<Queue, Gauge>,
    pub(super) task_wait: Histograms<Worked>,
    pub(super) attempt_duration: Histograms<Worked>,
    pub(super) attempts: Family<Attempted, Counter>,
    pub(super) circuit_open: Family<Named, Gauge>,
    pub(super) worker_seen: Family<Named, Gauge>,
    pub(super) calls_in_flight: Family<Named, Gauge>,
    pub(super) batch_commands: Histogram,
    pub(super) commit_duration: Histogram,
    pub(super) commands_waiting: Gauge,
    pub(super) database_usable: Gauge,
    pub(super) dead_rows: Gauge,
    pub(super) oldest_transaction: Gauge<f64, AtomicU64>,
    pub(super) database_size: Gauge,
    pub(super) disk_free: Family<Disk, Gauge>,
    pub(super) certificate_expiry: Gauge,
    pub(super) events: Family<Kind, Counter>,
    pub(super) event_readers: Gauge,
    pub(super) plugin_calls_hanging: Family<Kind, Gauge>,
    pub(super) payload_memory: Family<Kind, Gauge>,
    pub(super) payload_memory_max: Family<Kind, Gauge>,
    pub(super) requests: Family<Answered, Counter>,
    pub(super) request_duration: Histograms<Served>,
    pub(super) process: ProcessFamilies,
}

/// The process as the system sees it.
#[derive(Default)]
pub(super) struct ProcessFamilies {
    cpu: Counter<f64, AtomicU64>,
    open_files: Gauge,
    open_files_max: Gauge,
    virtual_memory: Gauge,
    resident_memory: Gauge,
    threads: Gauge,
    pub(super) start_time: Gauge,
}

impl ProcessFamilies {
    pub(super) fn show(&self, usage: Usage) {
        // Counted elsewhere, and never less than before.
        self.cpu.inner().store(usage.cpu_seconds.to_bits(), Ordering::Relaxed);
        for (gauge, number) in [
            (&self.open_files, usage.open_files),
            (&self.open_files_max, usage.open_files_max),
            (&self.virtual_memory, usage.virtual_bytes),
            (&self.resident_memory, usage.resident_bytes),
            (&self.threads, usage.threads),
        ] {
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    fn register(&self, registry: &mut Registry) {
        add(registry, &catalogue::PROCESS_CPU, &self.cpu);
        add(registry, &catalogue::PROCESS_OPEN_FDS, &self.open_files);
        add(registry, &catalogue::PROCESS_MAX_FDS, &self.open_files_max);
        add(registry, &catalogue::PROCESS_VIRTUAL_MEMORY, &self.virtual_memory);
        add(registry, &catalogue::PROCESS_RESIDENT_MEMORY, &self.resident_memory);
        add(registry, &catalogue::PROCESS_THREADS, &self.threads);
        add(registry, &catalogue::PROCESS_START_TIME, &self.start_time);
    }
}

impl Families {
    pub(super) fn new() -> Self {
        let by_task: fn() -> Histogram = || Histogram::new(TASK_SECONDS);
        let by_request: fn() -> Histogram = || Histogram::new(REQUEST_SECONDS);
        let mut all = Self {
            registry: Registry::default(),
            build_info: Family::default(),
            queue_tasks: Family::default(),
            queue_oldest: Family::default(),
            queue_paused: Family::default(),
            task_wait: Family::new_with_constructor(by_task),
            attempt_duration: Family::new_with_constructor(by_task),
            attempts: Family::default(),
            circuit_open: Family::default(),
            worker_seen: Family::default(),
            calls_in_flight: Family::default(),
            batch_commands: Histogram::new(BATCH_COMMANDS),
            commit_duration: Histogram::new(COMMIT_SECONDS),
            commands_waiting: Gauge::default(),
            database_usable: Gauge::default(),
            dead_rows: Gauge::default(),
            oldest_transaction: Gauge::default(),
            database_size: Gauge::default(),
            disk_free: Family::default(),
            certificate_expiry: Gauge::default(),
            events: Family::default(),
            event_readers: Gauge::default(),
            plugin_calls_hanging: Family::default(),
            payload_memory: Family::default(),
            payload_memory_max: Family::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(by_request),
            process: ProcessFamilies::default(),
        };
        all.register();
        all
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        add(registry, &catalogue::BUILD_INFO, &self.build_info);
        add(registry, &catalogue::QUEUE_TASKS, &self.queue_tasks);
        add(registry, &catalogue::QUEUE_OLDEST, &self.queue_oldest);
        add(registry, &catalogue::QUEUE_PAUSED, &self.queue_paused);
        add(registry, &catalogue::TASK_WAIT, &self.task_wait);
        add(registry, &catalogue::ATTEMPT_DURATION, &self.attempt_duration);
        add(registry, &catalogue::ATTEMPTS, &self.attempts);
        add(registry, &catalogue::CIRCUIT_OPEN, &self.circuit_open);
        add(registry, &catalogue::WORKER_SEEN, &self.worker_seen);
        add(registry, &catalogue::CALLS_IN_FLIGHT, &self.calls_in_flight);
        add(registry, &catalogue::BATCH_COMMANDS, &self.batch_commands);
        add(registry, &catalogue::COMMIT_DURATION, &self.commit_duration);
        add(registry, &catalogue::COMMANDS_WAITING, &self.commands_waiting);
        add(registry, &catalogue::DATABASE_USABLE, &self.database_usable);
        add(registry, &catalogue::DEAD_ROWS, &self.dead_rows);
        add(registry, &catalogue::OLDEST_TRANSACTION, &self.oldest_transaction);
        add(registry, &catalogue::DATABASE_SIZE, &self.database_size);
        add(registry, &catalogue::DISK_FREE, &self.disk_free);
        add(registry, &catalogue::CERTIFICATE_EXPIRY, &self.certificate_expiry);
        add(registry, &catalogue::EVENTS, &self.events);
        add(registry, &catalogue::EVENT_READERS, &self.event_readers);
        add(registry, &catalogue::PLUGIN_CALLS_HANGING, &self.plugin_calls_hanging);
        add(registry, &catalogue::PAYLOAD_MEMORY, &self.payload_memory);
        add(registry, &catalogue::PAYLOAD_MEMORY_MAX, &self.payload_memory_max);
        add(registry, &catalogue::REQUESTS, &self.requests);
        add(registry, &catalogue::REQUEST_DURATION, &self.request_duration);
        self.process.register(registry);
    }
}

/// The library puts unit and `_total` behind a name by itself.
fn add(registry: &mut Registry, entry: &Entry, metric: &(impl Metric + Clone)) {
    let name = entry.name.trim_end_matches("_total");
    match name.strip_suffix("_seconds") {
        Some(name) => {
            registry.register_with_unit(name, entry.help, Unit::Seconds, metric.clone());
        }
        None => registry.register(name, entry.help, metric.clone()),
    }
}

/// A count as a histogram takes it.
pub(super) fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A count as a gauge takes it.
pub(super) fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
