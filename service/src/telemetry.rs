//! The log, on standard error.

mod outlet;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::IsTerminal,
    panic::{self, PanicHookInfo},
    thread,
    time::Duration,
};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use self::outlet::{Line, OUTLET};
use crate::config::LogFormat;

/// How long the end of a process waits for its last lines to be read.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// What `log` says.
pub fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(text).context("log is not a filter")
}

/// Sends the log to standard error, as text for people or as JSON for programs. A thread that
/// logs waits for nobody, and no line that cannot be written ends a thread.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = self::filter(filter)?;
    OUTLET.open().context("there is no thread for the log")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(takes_colours(&std::io::stderr()))
        // It would print to standard error, and panic where that fails.
        .log_internal_errors(false)
        .with_writer(|| Line);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(anyhow::Error::from_boxed)
    .context("the log was set up before")?;
    // The usual hook waits for standard error before the thread is unwound: the watcher of
    // that thread would wait with it.
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Whether it is a terminal, of somebody who has nothing against colours (no-color.org).
pub fn takes_colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused
}

/// Prints a last word to standard error, as the log does if there is one.
pub fn print(text: &str) {
    OUTLET.print(text);
}

/// Waits a little until what was logged has been written.
pub fn flush() {
    OUTLET.flush(FLUSH_WITHIN);
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    tracing::error!(
        thread = thread.name(),
        at = panic.location().map(ToString::to_string),
        backtrace = captured.then(|| backtrace.to_string()),
        "panicked: {}",
        panic.payload_as_str().unwrap_or("without a word")
    );
}
