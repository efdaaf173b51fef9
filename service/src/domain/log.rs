//! Log lines on their way into the store. A [`NewLog`] holds a bounded number of bytes; if an
//! executor writes faster than lines are stored, the oldest ones are dropped and counted.

use std::collections::VecDeque;

use super::{
    Timestamp,
    attempt::LogLevel,
    limits::{LOG_BYTES_PER_RENEWAL_MAX, LOG_LINE_BYTES_MAX, cut_end, storable},
};

/// Bytes that each line counts in addition to its text, since many short lines cost as much as a
/// few long ones.
const LINE_EXTRA_BYTES: usize = 256;

/// A log line as the executor sent it.
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

/// Log lines that wait to be stored. If there are too many, the newest are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewLog {
    lines: VecDeque<NewLogLine>,
    bytes: usize,
    dropped: u64,
}

impl NewLog {
    /// Adds a line, cut to its limit and in a form that both engines can store. Drops the oldest
    /// lines if there are now too many bytes.
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

    /// Takes out the oldest lines, about `bytes` of them, together with the number of lines dropped
    /// before.
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

    /// Puts lines that could not be stored back in front of those that came meanwhile.
    pub fn put_back(&mut self, earlier: Self) {
        let meanwhile = std::mem::replace(self, earlier);
        self.dropped += meanwhile.dropped;
        for line in meanwhile.lines {
            self.push(line);
        }
    }

    /// Drops all lines and counts them as dropped.
    pub fn drop_all(&mut self) {
        self.dropped += self.lines.len() as u64;
        self.lines.clear();
        self.bytes = 0;
    }

    pub fn lines(&self) -> &VecDeque<NewLogLine> {
        &self.lines
    }

    /// Bytes of all lines, with the extra bytes of each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many lines were dropped since the last `take`.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether there is nothing to store: neither lines nor a number of dropped ones.
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
        // `take` takes the number of dropped lines along, so that it is stored once.
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
