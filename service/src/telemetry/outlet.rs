//! Brings lines to standard error from a thread of its own, so that nobody who logs waits for
//! whoever reads: a pipe may be full, a disk slow.
//!
//! (tracing-appender does the like. But what it left out it does not tell, and at the end it may
//! print to a standard output that is the same full pipe.)

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

/// Bytes of lines that wait to be written; one that finds no room is left out, and counted.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// A process has one standard error.
pub(super) static OUTLET: Outlet = Outlet::new();

pub(super) struct Outlet {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Somebody writes what is put here.
    open: bool,
    lines: VecDeque<Vec<u8>>,
    /// Of those lines, and of those that are being written.
    bytes: usize,
    /// Lines that nobody will see, and has not been told of.
    left_out: u64,
}

/// Takes one line, whole.
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

    /// Writes from now on what is put here.
    pub(super) fn open(&'static self) -> io::Result<()> {
        // Not through the standard library's own, whose lock others would wait for meanwhile.
        let stderr: Box<dyn Write + Send> = match io::stderr().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Box::new(File::from(descriptor)),
            // It is closed.
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

    /// A line beside the log. Without one it is written here, and a user who has closed standard
    /// error does not want it.
    pub(super) fn print(&self, text: &str) {
        let line = format!("{text}\n");
        if self.state().open {
            self.push(line.as_bytes());
        } else {
            io::stderr().write_all(line.as_bytes()).ok();
        }
    }

    /// Returns once all is written, or after this time.
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
                // A failed write may have written half a line.
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

    /// Makes room again. Says how many lines were left out, once they can be told of.
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
