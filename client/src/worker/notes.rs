//! What an attempt has to tell, on its way to the service.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nightshift_openapi::{LogLevel, LogLineRequest, Progress, RenewRequest};

/// Lines that wait to be sent; when there are more, the oldest go.
const LINES_MAX: usize = 10_000;
/// Lines of one heartbeat.
const LINES_AT_ONCE: usize = 1_000;
/// Bytes of the lines of one heartbeat, which has to stay small: it may carry one line more.
const BYTES_AT_ONCE: usize = 256 * 1024;
/// Bytes of one line.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Log lines and progress that wait for the next heartbeat.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<LogLineRequest>,
    dropped: u64,
    progress: Option<Progress>,
}

impl Notes {
    pub(super) fn log(&self, level: LogLevel, message: &str) {
        let end = message.floor_char_boundary(LINE_BYTES_MAX);
        let message = message.get(..end).unwrap_or(message);
        let mut waiting = self.waiting();
        waiting.lines.push_back(line(level, message.to_owned()));
        if waiting.lines.len() > LINES_MAX {
            waiting.lines.pop_front();
            waiting.dropped += 1;
        }
    }

    /// Only the latest progress is told.
    pub(super) fn progress(&self, progress: Progress) {
        self.waiting().progress = Some(progress);
    }

    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.waiting();
        waiting.lines.is_empty() && waiting.progress.is_none()
    }

    /// What the next heartbeat carries.
    pub(super) fn take(&self) -> RenewRequest {
        let mut waiting = self.waiting();
        let mut logs = Vec::new();
        if waiting.dropped > 0 {
            let message = format!("{} lines were dropped: too many at once", waiting.dropped);
            logs.push(line(LogLevel::Warning, message));
            waiting.dropped = 0;
        }
        let mut bytes = 0;
        while logs.len() < LINES_AT_ONCE
            && bytes < BYTES_AT_ONCE
            && let Some(line) = waiting.lines.pop_front()
        {
            bytes += line.message.len();
            logs.push(line);
        }
        RenewRequest { progress: waiting.progress.take(), logs }
    }

    /// Takes back what could not be sent.
    pub(super) fn put_back(&self, request: RenewRequest) {
        let mut waiting = self.waiting();
        for line in request.logs.into_iter().rev() {
            waiting.lines.push_front(line);
        }
        // There may be a newer one.
        waiting.progress = waiting.progress.take().or(request.progress);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(level: LogLevel, message: String) -> LogLineRequest {
    LogLineRequest { at: None, level, message }
}

#[cfg(test)]
mod tests {
    use nightshift_openapi::{LogLevel, Progress};

    use super::{BYTES_AT_ONCE, LINE_BYTES_MAX, LINES_AT_ONCE, LINES_MAX, Notes};

    fn log(notes: &Notes, message: &str) {
        notes.log(LogLevel::Info, message);
    }

    #[test]
    fn the_oldest_lines_are_dropped_and_that_is_said() {
        let notes = Notes::default();
        for number in 0..LINES_MAX + 5 {
            log(&notes, &number.to_string());
        }
        let first = notes.take();
        assert_eq!(first.logs.len(), LINES_AT_ONCE);
        assert_eq!(first.logs[0].message, "5 lines were dropped: too many at once");
        assert_eq!(first.logs[1].message, "5");
        notes.put_back(first);
        assert_eq!(notes.take().logs[1].message, "5");
    }

    #[test]
    fn a_heartbeat_stays_small() {
        let notes = Notes::default();
        for _ in 0..LINES_AT_ONCE {
            log(&notes, &"\u{e4}".repeat(LINE_BYTES_MAX));
        }
        let bytes: usize = notes.take().logs.iter().map(|line| line.message.len()).sum();
        assert!((BYTES_AT_ONCE..BYTES_AT_ONCE + LINE_BYTES_MAX).contains(&bytes), "{bytes}");
    }

    #[test]
    fn the_latest_progress_is_told_once() {
        let notes = Notes::default();
        let at = |fraction| Progress { fraction: Some(fraction), message: None };
        notes.progress(at(0.1));
        notes.progress(at(0.2));
        let request = notes.take();
        assert_eq!(request.progress, Some(at(0.2)));
        assert!(notes.is_empty());
        notes.put_back(request.clone());
        assert_eq!(notes.take().progress, Some(at(0.2)));
        notes.progress(at(0.3));
        notes.put_back(request);
        assert_eq!(notes.take().progress, Some(at(0.3)));
    }
}
