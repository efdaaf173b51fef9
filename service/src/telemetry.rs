//! The log, which is written to standard error.

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

/// How long the end of the process waits until the last lines of the log are written.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Parses the setting `log`.
pub fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(text).context("log is not a filter")
}

/// Sends the log to standard error, as text or as JSON. A thread that logs never waits, and a line
/// that cannot be written does no harm.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = self::filter(filter)?;
    OUTLET.open().context("there is no thread for the log")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(takes_colours(&std::io::stderr()))
        // The library would print its own errors to standard error, and panic if that fails.
        .log_internal_errors(false)
        .with_writer(|| Line);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(anyhow::Error::from_boxed)
    .context("the log was set up before")?;
    // The standard hook writes to standard error before the thread is unwound. If that blocked, the
    // code that watches the thread would not learn of its end.
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Whether the stream is a terminal, and the user has not refused colours (no-color.org).
pub fn takes_colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused
}

/// Prints a text to standard error, through the log's thread if the log is open.
pub fn print(text: &str) {
    OUTLET.print(text);
}

/// Waits at most a second until the lines logged so far are written.
pub fn flush() {
    OUTLET.flush(FLUSH_WITHIN);
}

/// Logs a panic instead of printing it.
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
