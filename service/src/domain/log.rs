//! Log lines on their way into the store.

use std::collections::VecDeque;

use super::{
    Timestamp,
    attempt::LogLevel,
    limits::{LOG_BYTES_PER_RENEWAL_MAX, LOG_LINE_BYTES_MAX, cut_end, storable},
};

/// Bytes that a line counts beside its text: many short ones cost what few long ones do.
const LINE_EXTRA_BYTES: usize = 256;

/// A line as the executor sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLogLine {
    pub at: Option<Timestamp>,
    pub level: LogLevel,
    pub message: String,
}

impl NewLogLine {
    fn bytes(&self) -> usize {
        self.message.len() + LINE_EXTRA_BYTES
    }
}

/// Lines that wait to be stored; of too many, the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewLog {
    lines: VecDeque<NewLogLine>,
    bytes: usize,
    dropped: u64,
}

impl NewLog {
    /// Adds a line, as the store can hold it.
    pub fn push(&mut self, line: NewLogLine) {
        let NewLogLine { at, level, message } = line;
        let text = storable(cut_end(&message, LOG_LINE_BYTES_MAX));
        let message = cut_end(&text, LOG_LINE_BYTES_MAX).to_owned();
        let line = NewLogLine { at, level, message };
        self.bytes += line.bytes();
        self.lines.push_back(line);
        while self.bytes > LOG_BYTES_PER_RENEWAL_MAX && self.pop().is_some() {
            self.dropped += 1;
        }
    }

    fn pop(&mut self) -> Option<NewLogLine> {
        let oldest = self.lines.pop_front()?;
        self.bytes -= oldest.bytes();
        Some(oldest)
    }

    /// Takes the oldest lines, about so many bytes of them, and how many there were before.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> Self {
        let mut taken = Self { dropped: std::mem::take(&mut self.dropped), ..Self::default() };
        while taken.bytes < bytes
            && let Some(line) = self.pop()
        {
            taken.bytes += line.bytes();
            taken.lines.push_back(line);
        }
        taken
    }

    /// Takes back what could not be stored, before what came meanwhile.
    pub fn put_back(&mut self, earlier: Self) {
        let meanwhile = std::mem::replace(self, earlier);
        self.dropped += meanwhile.dropped;
        for line in meanwhile.lines {
            self.push(line);
        }
    }

    /// Drops all lines, and counts them.
    pub fn drop_all(&mut self) {
        self.dropped += self.lines.len() as u64;
        self.lines.clear();
        self.bytes = 0;
    }

    pub fn lines(&self) -> &VecDeque<NewLogLine> {
        &self.lines
    }

    /// How much they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lines that were left out.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// There is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{LOG_BYTES_PER_RENEWAL_MAX, LogLevel, NewLog, NewLogLine};

    fn line(number: usize) -> NewLogLine {
        let message = format!("{number:01000}");
        NewLogLine { at: None, level: LogLevel::Info, message }
    }

    #[test]
    fn of_too_many_lines_the_newest_stay_and_the_others_are_counted() {
        let mut log = NewLog::default();
        (0..10_000).for_each(|number| log.push(line(number)));
        assert!(log.bytes() <= LOG_BYTES_PER_RENEWAL_MAX);
        assert_eq!(log.lines().len() as u64 + log.dropped(), 10_000);
        assert_eq!(log.lines().back(), Some(&line(9_999)));
        // A piece takes the number along, so that it is said once.
        let dropped = log.dropped();
        let piece = log.take(64 * 1024);
        assert_eq!((piece.dropped(), log.dropped()), (dropped, 0));
        assert!((60 * 1024..70 * 1024).contains(&piece.bytes()));
        let next = log.lines().front().cloned();
        log.put_back(piece.clone());
        assert_eq!((log.take(64 * 1024), log.lines().front().cloned()), (piece, next));
        log.drop_all();
        assert!(!log.is_empty() && log.lines().is_empty());
    }
}
