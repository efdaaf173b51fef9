//! The last lines of what a command has said.

use std::collections::VecDeque;

/// Lines that are kept, and their bytes: what a person reads, and what an attempt's record takes.
const LINES_MAX: usize = 100;
const BYTES_MAX: usize = 16 * 1024;

/// The last lines, as many as there is room for.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// Takes a line more, of which it keeps the beginning if it is very long.
    pub(super) fn push(&mut self, line: &str) {
        let line = &line[..line.floor_char_boundary(BYTES_MAX)];
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.lines.len() > 1 && (self.bytes > BYTES_MAX || self.lines.len() > LINES_MAX) {
            let first = self.lines.pop_front().unwrap_or_default();
            self.bytes -= first.len() + 1;
        }
    }

    pub(super) fn last(&self) -> Option<&str> {
        self.lines.back().map(String::as_str)
    }

    /// All that was kept, if that is more than the last line says.
    pub(super) fn lines(&self) -> Option<String> {
        (self.lines.len() > 1).then(|| self.lines.iter().cloned().collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, LINES_MAX, Tail};

    #[test]
    fn the_last_lines_are_kept_within_bounds() {
        let mut tail = Tail::default();
        assert_eq!((tail.last(), tail.lines()), (None, None));
        tail.push("one");
        assert_eq!((tail.last(), tail.lines()), (Some("one"), None));
        for number in 0..2 * LINES_MAX {
            tail.push(&number.to_string());
        }
        let lines = tail.lines().unwrap();
        assert_eq!(lines.lines().count(), LINES_MAX);
        assert!(lines.starts_with("100\n") && lines.ends_with("\n199"), "{lines}");
        tail.push(&"ü".repeat(BYTES_MAX));
        assert_eq!(tail.last().map(str::len), Some(BYTES_MAX));
        assert_eq!(tail.lines(), None, "nothing else finds room");
        tail.push("last");
        assert_eq!((tail.last(), tail.lines()), (Some("last"), None));
    }
}
