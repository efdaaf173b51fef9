//! Every bound that is not a setting, with its name.

use std::{borrow::Cow, time::Duration};

/// Characters of a task path, queue name or unique key.
pub const NAME_CHARS_MAX: usize = 255;
/// Characters of an executor's name.
pub const EXECUTOR_NAME_CHARS_MAX: usize = 100;
/// Characters of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// Labels of one task.
pub const LABELS_MAX: usize = 32;
/// Characters of a label's key.
pub const LABEL_KEY_CHARS_MAX: usize = 63;
/// Characters of a label's value.
pub const LABEL_VALUE_CHARS_MAX: usize = 255;
/// Nesting of args, kwargs and return values.
pub const JSON_DEPTH_MAX: usize = 128;
/// The lowest and the highest priority.
pub const PRIORITY_MIN: i16 = -100;
pub const PRIORITY_MAX: i16 = 100;
/// Attempts of one task, until it is retried by hand.
pub const ATTEMPTS_MAX: u32 = 100;
/// The longest timeout or backoff.
pub const DURATION_MAX: Duration = Duration::from_hours(7 * 24);
/// The largest growth of the backoff from one attempt to the next.
pub const BACKOFF_FACTOR_MAX: f64 = 100.0;
/// Tasks of one batch.
pub const BATCH_TASKS_MAX: usize = 10_000;
/// Task paths of one executor.
pub const TASK_PATHS_MAX: usize = 1_000;
/// Executors that are registered at once.
pub const EXECUTORS_MAX: usize = 1_000;
/// Task paths of all executors together.
pub const TASK_PATHS_IN_ALL_MAX: usize = 10_000;
/// Queues that are paused or limited at once. A claim looks at each of them.
pub const QUEUES_SET_MAX: usize = 1_000;
/// Tasks of one executor that run at once.
pub const CONCURRENCY_MAX: u32 = 10_000;
/// Seconds that a lease may last.
pub const LEASE_SECONDS_MAX: u32 = 3_600;
/// MiB that one run of a plugin may have. A component for 32 bits cannot use more.
pub const MEMORY_MIB_MIN: u32 = 1;
pub const MEMORY_MIB_MAX: u32 = 4_096;
/// Characters of the line that a plugin says of a task.
pub const SUMMARY_CHARS_MAX: usize = 200;
/// Bytes of the help that a plugin gives for a task.
pub const DESCRIPTION_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the help for all tasks of a plugin.
pub const DESCRIPTIONS_BYTES_MAX: usize = 256 * 1024;
/// Hosts, directories and variables that one executor grants its plugin.
pub const GRANTS_MAX: usize = 100;
/// Characters of the name of a variable that is granted.
pub const ENVIRONMENT_NAME_CHARS_MAX: usize = 100;
/// Bytes of its value.
pub const ENVIRONMENT_BYTES_MAX: usize = 16 * 1024;
/// Versions of a plugin that are kept beside the active one, to go back to.
pub const OLD_VERSIONS_MAX: usize = 4;
/// Characters of an executor's URL.
pub const URL_CHARS_MAX: usize = 2_048;
/// Bytes of what is wrong with a request: it quotes the request, which may be large.
pub const DETAIL_BYTES_MAX: usize = 1_024;
/// Bytes of a field's name that is wrong with a request.
pub const POINTER_KEY_BYTES_MAX: usize = 1_024;
/// Bytes of an error's message; longer ones are cut at a character.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a traceback; the start of a longer one is cut away, since its end says what happened.
pub const TRACEBACK_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an exception's class path.
pub const CLASS_PATH_BYTES_MAX: usize = 512;
/// Errors kept of one task: of those that a retry by hand has let pile up, the newest.
pub const ERRORS_PER_TASK_MAX: i64 = 100;
/// Bytes of errors kept of one task. The newest is kept however large it is.
pub const ERROR_BYTES_PER_TASK_MAX: i64 = 1024 * 1024;
/// Workers kept of one task, that of the last attempt being the last.
pub const WORKER_IDS_PER_TASK_MAX: usize = 100;
/// Bytes of a progress message.
pub const PROGRESS_BYTES_MAX: usize = 4_000;
/// Log lines of one heartbeat.
pub const LOG_LINES_PER_RENEWAL_MAX: usize = 1_000;
/// Bytes of the lines of one heartbeat, and of those that wait for one; of more, the newest stay.
pub const LOG_BYTES_PER_RENEWAL_MAX: usize = 1024 * 1024;
/// Bytes of one log line.
pub const LOG_LINE_BYTES_MAX: usize = 8 * 1024;
/// Log lines kept of one task.
pub const LOG_LINES_PER_TASK_MAX: i64 = 10_000;
/// Bytes of log kept of one task.
pub const LOG_BYTES_PER_TASK_MAX: i64 = 4 * 1024 * 1024;
/// Bytes of tasks that one claim takes along, be it a worker's or for calls; a task that is larger
/// goes alone.
pub const CLAIM_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Tasks that a worker takes at once, and ends that it reports at once.
pub const LEASES_MAX: u32 = 1_000;
/// Queues that a worker names when it asks for tasks.
pub const QUEUES_ASKED_MAX: usize = 100;
/// The longest retention of tasks that have ended.
pub const RETENTION_MAX: Duration = Duration::from_hours(100 * 365 * 24);
/// Rows of one page of a list.
pub const PAGE_MAX: u32 = 1_000;
/// Bytes of one page, about: it ends earlier where its rows are large.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of log that a watcher of a task is told at once, about.
pub const LOG_PIECE_BYTES_MAX: usize = 64 * 1024;
/// Rows of one page unless asked otherwise.
pub const PAGE_DEFAULT: u32 = 100;
/// How far `explain` counts the tasks ahead of one.
pub const AHEAD_COUNTED_MAX: u32 = 1_000;
/// How long a request waits for a task to end, or a worker for one to begin: less than the minute
/// after which proxies give up on an answer (nginx's `proxy_read_timeout`).
pub const WAIT_MAX: Duration = Duration::from_secs(50);
/// A worker that has room asks again and again; one that has not asked for so long has none, or is not
/// there. Other processes' knowledge of it may be some seconds old.
pub const ASKS_LATELY: Duration = Duration::from_secs(75);
/// How long a worker may ask to wait.
pub const WAIT_ASKED_MAX: Duration = Duration::from_mins(1);
/// How long a cancelled attempt may take to stop.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// The longest time an executor can ask to be left alone.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// The longest start of `text` that fits into `bytes_max` without splitting a character.
pub fn cut_end(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

/// The longest end of `text` that fits into `bytes_max` without splitting a character.
pub fn cut_start(text: &str, bytes_max: usize) -> &str {
    let start = text.len().saturating_sub(bytes_max);
    text.get(text.ceil_char_boundary(start)..).unwrap_or(text)
}

/// The text as both engines can hold it: PostgreSQL has no NUL, so one is written out as JSON
/// would.
pub fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\\u0000")) } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::{cut_end, cut_start, storable};

    #[test]
    fn b34_a_nul_is_written_out() {
        assert_eq!(storable("a\0b"), "a\\u0000b");
        assert_eq!(storable("ab"), "ab");
    }

    #[test]
    fn b42_text_is_cut_between_characters() {
        let text = format!("{}é!", "a".repeat(999));
        assert_eq!(cut_end(&text, 1000), "a".repeat(999));
        assert_eq!(cut_end(&text, 1001), format!("{}é", "a".repeat(999)));
        assert_eq!(cut_start(&text, 2), "!");
        assert_eq!(cut_start("short", 100), "short");
    }
}
