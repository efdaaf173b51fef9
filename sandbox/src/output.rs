//! The log lines of a plugin, from `host.log` and from standard output and standard error.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::run::{Journal, Level};

/// The most lines that are kept of one run.
const LINES_MAX: u32 = 1_000;
/// The most bytes of one line.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// The most bytes, from the end of standard error, that are shown with a fault.
const TAIL_BYTES_MAX: usize = 8 * 1024;
/// The most bytes that a plugin may write at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Passes lines to the journal, up to the limit of one run.
pub(crate) struct Log {
    journal: Arc<dyn Journal>,
    lines: Mutex<u32>,
}

impl Log {
    pub(crate) fn new(journal: Arc<dyn Journal>) -> Self {
        Self { journal, lines: Mutex::new(0) }
    }

    pub(crate) fn line(&self, level: Level, line: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        *lines = lines.saturating_add(1);
        if *lines <= LINES_MAX {
            let cut = line.get(..line.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or(line);
            self.journal.log(level, cut.to_owned());
        }
    }

    pub(crate) fn progress(&self, fraction: Option<f64>, message: Option<String>) {
        self.journal.progress(fraction, message);
    }

    /// Logs how many lines were dropped, if any were.
    pub(crate) fn close(&self) {
        let lines = *self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dropped @ 1..) = lines.checked_sub(LINES_MAX) {
            let line = format!("{dropped} more lines were dropped: a run may log {LINES_MAX}");
            self.journal.log(Level::Warning, line);
        }
    }
}

/// Standard output or standard error of a plugin, split into lines.
#[derive(Clone)]
pub(crate) struct Output {
    level: Level,
    log: Arc<Log>,
    written: Arc<Mutex<Written>>,
}

#[derive(Default)]
struct Written {
    line: Vec<u8>,
    tail: Vec<u8>,
}

impl Output {
    pub(crate) fn new(level: Level, log: Arc<Log>) -> Self {
        Self { level, log, written: Arc::default() }
    }

    /// Logs an unfinished last line.
    pub(crate) fn close(&self) {
        let line = std::mem::take(&mut self.written().line);
        self.log_line(&line);
    }

    /// The end of the text that was written.
    pub(crate) fn tail(&self) -> String {
        String::from_utf8_lossy(&self.written().tail).into_owned()
    }

    fn take(&self, bytes: &[u8]) {
        let mut written = self.written();
        written.tail.extend_from_slice(bytes);
        let surplus = written.tail.len().saturating_sub(TAIL_BYTES_MAX);
        written.tail.drain(..surplus);
        // A line that is too long is logged in parts, so that the buffer stays small.
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            written.line.extend_from_slice(part);
            if part.ends_with(b"\n") || written.line.len() >= LINE_BYTES_MAX {
                self.log_line(&std::mem::take(&mut written.line));
            }
        }
    }

    fn log_line(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if !text.is_empty() {
            self.log.line(self.level, text);
        }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // This is for WASI 0.3, which the linker does not offer.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}
