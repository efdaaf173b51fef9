use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nightshift_client::types::{LogLevel, LogLineRequest};

/// Lines that wait to be sent; when there are more, the oldest go.
const LINES_MAX: usize = 10_000;
/// Lines of one heartbeat.
const LINES_AT_ONCE: usize = 1_000;
/// Bytes of one line.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// A command's output on its way to the task's log.
#[derive(Default)]
pub(super) struct Logs(Mutex<Buffer>);

#[derive(Default)]
struct Buffer {
    lines: VecDeque<LogLineRequest>,
    dropped: u64,
}

impl Logs {
    pub(super) fn push(&self, line: &str) {
        let message = line.get(..line.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or(line);
        let mut buffer = self.buffer();
        buffer.lines.push_back(entry(LogLevel::Info, message.to_owned()));
        if buffer.lines.len() > LINES_MAX {
            buffer.lines.pop_front();
            buffer.dropped += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer().lines.is_empty()
    }

    /// The next lines to send.
    pub(super) fn take(&self) -> Vec<LogLineRequest> {
        let mut buffer = self.buffer();
        let mut taken = Vec::new();
        if buffer.dropped > 0 {
            let message = format!("{} lines were dropped: too many at once", buffer.dropped);
            taken.push(entry(LogLevel::Warning, message));
            buffer.dropped = 0;
        }
        let count = buffer.lines.len().min(LINES_AT_ONCE - taken.len());
        taken.extend(buffer.lines.drain(..count));
        taken
    }

    /// Takes lines back that could not be sent.
    pub(super) fn put_back(&self, lines: Vec<LogLineRequest>) {
        let mut buffer = self.buffer();
        for line in lines.into_iter().rev() {
            buffer.lines.push_front(line);
        }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry(level: LogLevel, message: String) -> LogLineRequest {
    LogLineRequest { at: None, level, message }
}

#[cfg(test)]
mod tests {
    use super::{LINES_AT_ONCE, LINES_MAX, Logs};

    #[test]
    fn the_oldest_lines_are_dropped_and_that_is_said() {
        let logs = Logs::default();
        for number in 0..LINES_MAX + 5 {
            logs.push(&number.to_string());
        }
        let first = logs.take();
        assert_eq!(first.len(), LINES_AT_ONCE);
        assert_eq!(first[0].message, "5 lines were dropped: too many at once");
        assert_eq!(first[1].message, "5");
        logs.put_back(first);
        assert_eq!(logs.take()[1].message, "5");
    }
}
