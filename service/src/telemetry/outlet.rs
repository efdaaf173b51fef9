//! Writes log lines to standard error in a thread of its own, so that a thread that logs never
//! waits for the reader of standard error: a pipe may be full, or a disk slow.
//!
//! (The crate tracing-appender does something similar. But it does not report lines that it has
//! dropped, and at the end of the process it may print to standard output, which may be the same
//! full pipe.)

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    mem,
    os::fd::AsFd,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Bytes of lines that may wait to be written. A line for which there is no room is dropped and
/// counted.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// There is one for the whole process, as there is one standard error.
pub(super) static OUTLET: Outlet = Outlet::new();

pub(super) struct Outlet {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// A thread writes the lines.
    open: bool,
    lines: VecDeque<Vec<u8>>,
    /// Bytes of these lines, and of those that are being written.
    bytes: usize,
    /// Dropped lines that the log has not reported yet.
    left_out: u64,
}

/// Passes one complete line to the outlet.
pub(super) struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        OUTLET.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outlet {
    const fn new() -> Self {
        let state = State { open: false, lines: VecDeque::new(), bytes: 0, left_out: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Starts the thread that writes the lines.
    pub(super) fn open(&'static self) -> io::Result<()> {
        // Use a descriptor of its own: the lock of the standard library's `stderr` would be held
        // while a write blocks, and other threads would wait for it.
        let stderr: Box<dyn Write + Send> = match io::stderr().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Box::new(File::from(descriptor)),
            // Standard error is closed.
            Err(_) => Box::new(io::sink()),
        };
        thread::Builder::new().name("log".to_owned()).spawn(move || self.run(stderr))?;
        self.state().open = true;
        Ok(())
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.bytes + line.len() > WAITING_BYTES_MAX {
            state.left_out += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_owned());
        self.changed.notify_all();
    }

    /// Prints a line. If the log is not open, it is written directly; an error is ignored, since
    /// then the user has closed standard error.
    pub(super) fn print(&self, text: &str) {
        let line = format!("{text}\n");
        if self.state().open {
            self.push(line.as_bytes());
        } else {
            io::stderr().write_all(line.as_bytes()).ok();
        }
    }

    /// Returns once all lines are written, or after `within`.
    pub(super) fn flush(&self, within: Duration) {
        let waiting = |state: &mut State| state.bytes > 0;
        drop(self.changed.wait_timeout_while(self.state(), within, waiting));
    }

    fn run(&self, mut to: impl Write) {
        let mut cut = false;
        loop {
            let lines = self.take();
            let mut lost = 0;
            for line in &lines {
                // A write that failed may have written half a line, so begin a new one.
                let begun = if cut { to.write_all(b"\n") } else { Ok(()) };
                cut = begun.and_then(|()| to.write_all(line)).is_err();
                lost += u64::from(cut);
            }
            let left_out = self.written(&lines, lost, cut);
            if left_out > 0 {
                tracing::warn!(
                    lines = left_out,
                    "lines of this log are missing: standard error was not read, or could not be \
                     written"
                );
            }
        }
    }

    fn take(&self) -> VecDeque<Vec<u8>> {
        let waiting = self.changed.wait_while(self.state(), |state| state.lines.is_empty());
        mem::take(&mut waiting.unwrap_or_else(PoisonError::into_inner).lines)
    }

    /// Makes room for new lines. Returns how many lines were dropped, if writing works again so
    /// that the log can report it.
    fn written(&self, lines: &VecDeque<Vec<u8>>, lost: u64, cut: bool) -> u64 {
        let mut state = self.state();
        state.bytes -= lines.iter().map(Vec::len).sum::<usize>();
        state.left_out += lost;
        self.changed.notify_all();
        if cut { 0 } else { mem::take(&mut state.left_out) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
