//! Every metric, with its name, labels and help: the registry and the table in docs/OPERATING.md
//! are made of it.

use std::fmt;

/// What is known of a metric without looking at it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// As Prometheus shows it: with its unit, and `_total` where it counts.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// One sentence without its full stop, which the registry adds.
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

macro_rules! catalogue {
    ($($constant:ident $kind:ident $name:literal [$($label:literal)*] $help:literal;)*) => {
        $(pub(super) const $constant: Entry = Entry {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*
        pub(super) const ALL: &[Entry] = &[$($constant),*];
    };
}

catalogue! {
    BUILD_INFO Gauge "nightshift_build_info" ["version"]
        "Always 1; the label says which version runs";
    QUEUE_TASKS Gauge "nightshift_queue_tasks" ["queue" "state"]
        "Tasks that could run (ready), wait for their time (scheduled) or run (running); the same from every process of one database";
    QUEUE_OLDEST Gauge "nightshift_queue_oldest_ready_age_seconds" ["queue"]
        "How long the oldest task that could run has been able to; 0 if there is none";
    QUEUE_PAUSED Gauge "nightshift_queue_paused" ["queue"]
        "1 if the queue is paused";
    TASK_WAIT Histogram "nightshift_task_wait_seconds" ["queue" "executor_kind"]
        "Time from when a task could run to the start of its attempt";
    ATTEMPT_DURATION Histogram "nightshift_attempt_duration_seconds" ["queue" "executor_kind"]
        "Time from the start of an attempt to its recorded end";
    ATTEMPTS Counter "nightshift_attempts_total" ["executor" "outcome"]
        "Attempts that ended: successful, failed, rejected, trap, timeout, lost, unreachable, handed_back, cancelled";
    CIRCUIT_OPEN Gauge "nightshift_executor_circuit_open" ["executor"]
        "1 while an executor gets no tasks because deliveries to it failed";
    WORKER_SEEN Gauge "nightshift_executor_worker_seen_timestamp_seconds" ["executor"]
        "When a worker of the executor asked for tasks last, in seconds since 1970; missing if none has; up to 20 s late of workers that ask another process";
    CALLS_IN_FLIGHT Gauge "nightshift_executor_calls_in_flight" ["executor"]
        "Calls of the executor, or runs of its plugin, that this process waits for";
    BATCH_COMMANDS Histogram "nightshift_writer_batch_commands" []
        "Commands that the writer committed together";
    COMMIT_DURATION Histogram "nightshift_writer_commit_seconds" []
        "Time of a transaction of the writer, from its begin to after its commit";
    COMMANDS_WAITING Gauge "nightshift_writer_commands_waiting" []
        "Commands that wait for the writer; at 4096 requests are refused";
    DATABASE_USABLE Gauge "nightshift_database_usable" []
        "1 unless the last transaction failed because the database is away";
    DEAD_ROWS Gauge "nightshift_database_dead_rows" []
        "Rows of PostgreSQL that are dead and not yet cleaned away, as it estimates them; 0 on SQLite";
    OLDEST_TRANSACTION Gauge "nightshift_database_oldest_transaction_seconds" []
        "For how long a transaction on PostgreSQL has been open that keeps dead rows; 0 on SQLite";
    DATABASE_SIZE Gauge "nightshift_database_size_bytes" []
        "Size of the database; on SQLite of its file, without the -wal beside it";
    DISK_FREE Gauge "nightshift_disk_free_bytes" ["disk"]
        "Room for the service's user on the disk of an SQLite database (database) and on that of compiled plugins (plugin_cache)";
    CERTIFICATE_EXPIRY Gauge "nightshift_certificate_expiry_timestamp_seconds" []
        "When the certificate ends that the service shows, or the first of those that lead to its authority, in seconds since 1970; 0 without one";
    EVENTS Counter "nightshift_events_total" ["kind"]
        "Events written, by what happened to a task";
    EVENT_READERS Gauge "nightshift_event_readers" []
        "Connections that read events";
    PLUGIN_CALLS_HANGING Gauge "nightshift_plugin_calls_hanging" ["kind"]
        "File operations (file) and name lookups (name) of plugins' runs that have ended, which do not end and keep a thread each";
    PAYLOAD_MEMORY Gauge "nightshift_payload_memory_bytes" ["kind"]
        "Memory that payloads take of payload_memory_mib: bodies and answers of requests (request), what calls carry (call), what executors answer (return)";
    PAYLOAD_MEMORY_MAX Gauge "nightshift_payload_memory_max_bytes" ["kind"]
        "Memory that payloads of each kind may take; at the maximum requests are refused, and calls wait";
    REQUESTS Counter "nightshift_http_requests_total" ["method" "route" "status"]
        "Requests answered, by the pattern of their path; none where nothing is";
    REQUEST_DURATION Histogram "nightshift_http_request_duration_seconds" ["method" "route"]
        "Time from the head of a request to the head of its answer, asked-for waits included";
    PROCESS_CPU Counter "process_cpu_seconds_total" []
        "Processor time that the process has taken, by itself and for it by the system";
    PROCESS_OPEN_FDS Gauge "process_open_fds" []
        "Files and connections that the process has open";
    PROCESS_MAX_FDS Gauge "process_max_fds" []
        "Files and connections that it may have open";
    PROCESS_VIRTUAL_MEMORY Gauge "process_virtual_memory_bytes" []
        "Address space of the process; each place for a plugin's run reserves some that is no memory";
    PROCESS_RESIDENT_MEMORY Gauge "process_resident_memory_bytes" []
        "Memory that the process takes";
    PROCESS_THREADS Gauge "process_threads" []
        "Threads of the process";
    PROCESS_START_TIME Gauge "process_start_time_seconds" []
        "When the service began, in seconds since 1970";
}
