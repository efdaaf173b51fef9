//! The fixed limits that are not settings, each with its name, and the functions that cut texts to
//! them.

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
/// Queues that are paused or limited at once. The number is bounded because each claim looks at all
/// of them.
pub const QUEUES_SET_MAX: usize = 1_000;
/// Tasks of one executor that run at once.
pub const CONCURRENCY_MAX: u32 = 10_000;
/// Seconds that a lease may last.
pub const LEASE_SECONDS_MAX: u32 = 3_600;
/// MiB of memory that one run of a plugin may use. A component addresses memory with 32 bits, so it
/// cannot use more than 4 GiB.
pub const MEMORY_MIB_MIN: u32 = 1;
pub const MEMORY_MIB_MAX: u32 = 4_096;
/// Characters of the one-line summary that a plugin gives of a task.
pub const SUMMARY_CHARS_MAX: usize = 200;
/// Bytes of the description that a plugin gives of a task.
pub const DESCRIPTION_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the descriptions of all tasks of a plugin together.
pub const DESCRIPTIONS_BYTES_MAX: usize = 256 * 1024;
/// Hosts, directories and variables that one executor grants its plugin.
pub const GRANTS_MAX: usize = 100;
/// Characters of the name of an environment variable that is granted.
pub const ENVIRONMENT_NAME_CHARS_MAX: usize = 100;
/// Bytes of the value of such a variable.
pub const ENVIRONMENT_BYTES_MAX: usize = 16 * 1024;
/// How many earlier versions of a plugin are kept beside the active one, so that it can be rolled
/// back.
pub const OLD_VERSIONS_MAX: usize = 4;
/// Characters of an executor's URL.
pub const URL_CHARS_MAX: usize = 2_048;
/// Bytes of the text that says what is wrong with a request. It quotes the request, which may be
/// large.
pub const DETAIL_BYTES_MAX: usize = 1_024;
/// Bytes of a field's name in the pointer to the wrong part of a request.
pub const POINTER_KEY_BYTES_MAX: usize = 1_024;
/// Bytes of an error's message. A longer one is cut between two characters.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a traceback. The start of a longer one is cut off, since its end says what happened.
pub const TRACEBACK_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an exception's class path.
pub const CLASS_PATH_BYTES_MAX: usize = 512;
/// How many errors of one task are kept. A task that is retried by hand again and again may have
/// more; then the newest are kept.
pub const ERRORS_PER_TASK_MAX: i64 = 100;
/// Bytes of errors that are kept of one task. The newest is always kept, however large it is.
pub const ERROR_BYTES_PER_TASK_MAX: i64 = 1024 * 1024;
/// How many worker ids are kept of one task. The last one is that of the last attempt.
pub const WORKER_IDS_PER_TASK_MAX: usize = 100;
/// Bytes of a progress message.
pub const PROGRESS_BYTES_MAX: usize = 4_000;
/// Log lines of one heartbeat.
pub const LOG_LINES_PER_RENEWAL_MAX: usize = 1_000;
/// Bytes of the log lines of one heartbeat, and of the lines that wait for one. If there are more,
/// the newest are kept.
pub const LOG_BYTES_PER_RENEWAL_MAX: usize = 1024 * 1024;
/// Bytes of one log line.
pub const LOG_LINE_BYTES_MAX: usize = 8 * 1024;
/// How many log lines are kept of one task.
pub const LOG_LINES_PER_TASK_MAX: i64 = 10_000;
/// Bytes of log that are kept of one task.
pub const LOG_BYTES_PER_TASK_MAX: i64 = 4 * 1024 * 1024;
/// Bytes of the tasks that one claim takes, for a worker or for calls. A task that is larger is
/// claimed alone.
pub const CLAIM_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Tasks that a worker takes at once, and results that it reports at once.
pub const LEASES_MAX: u32 = 1_000;
/// Queues that a worker may name when it asks for tasks.
pub const QUEUES_ASKED_MAX: usize = 100;
/// The longest time for which finished tasks can be kept.
pub const RETENTION_MAX: Duration = Duration::from_hours(100 * 365 * 24);
/// Rows of one page of a list.
pub const PAGE_MAX: u32 = 1_000;
/// Bytes of one page, about: a page with large rows ends earlier.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of log, about, that a client watching one task is sent at once.
pub const LOG_PIECE_BYTES_MAX: usize = 64 * 1024;
/// Rows of one page unless the request asks for another number.
pub const PAGE_DEFAULT: u32 = 100;
/// The largest number of tasks ahead of one that `explain` counts.
pub const AHEAD_COUNTED_MAX: u32 = 1_000;
/// How long a request may wait for a task to end, or a worker for a task to begin. Less than the
/// minute after which proxies give up on an answer (nginx's `proxy_read_timeout`).
pub const WAIT_MAX: Duration = Duration::from_secs(50);
/// If a worker has not asked for tasks for this long, it is counted as busy or absent, since a
/// worker with room asks again and again. The time is longer than its longest wait, because other
/// processes learn of a question some seconds late.
pub const ASKS_LATELY: Duration = Duration::from_secs(75);
/// The longest wait that a worker may ask for.
pub const WAIT_ASKED_MAX: Duration = Duration::from_mins(1);
/// How long a cancelled attempt may take to stop before it is ended without its executor.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// The longest time for which an executor can ask to get no tasks.
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

/// The text in a form that both engines can store: PostgreSQL cannot store a NUL character, so it
/// is written as JSON's escape `\u0000`.
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
