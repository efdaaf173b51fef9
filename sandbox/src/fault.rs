//! Faults: ends of a run that the plugin did not choose, and what they mean.

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::{
    limiter::{Budget, PASSED_BYTES_MAX},
    waiters::Hung,
};

const MIB: usize = 1024 * 1024;

/// Why a run failed, in words for people, and where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub message: String,
    /// The end of standard error, and the functions that were active.
    pub traceback: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// A panic, an abort, an exception that was not caught, or a wrong pointer.
    Trap,
    /// It recursed too deeply.
    StackOverflow,
    /// It asked for more memory than it may have, and failed after the refusal.
    OutOfMemory,
    /// It ran for too long, or waited for a call that hangs.
    Timeout,
    /// It passed too much data to the host at once.
    TooLarge,
    /// It called `exit` instead of returning.
    Exit,
    /// The run was cancelled.
    Cancelled,
    /// The run could not begin, for instance because a granted directory does not exist.
    NotStarted,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), traceback: None }
    }

    /// The fault for an error of wasmtime. `said` is the end of the run's standard error.
    pub(crate) fn of(error: &wasmtime::Error, budget: &Budget, said: &str) -> Self {
        let (kind, message) = classify(error, budget);
        Self { kind, message, traceback: traceback(error, said) }
    }
}

fn classify(error: &wasmtime::Error, budget: &Budget) -> (FaultKind, String) {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return (FaultKind::Exit, format!("the plugin called exit({status})"));
    }
    if let Some(hung) = error.downcast_ref::<Hung>() {
        return (FaultKind::Timeout, hung.to_string());
    }
    let cause = root(error);
    match error.downcast_ref() {
        Some(Trap::StackOverflow) => {
            (FaultKind::StackOverflow, "the plugin recursed too deeply".to_owned())
        }
        // Wasmtime has no error type for this.
        None if cause.starts_with("too much data is being copied") => {
            let mib = PASSED_BYTES_MAX / MIB;
            let message = format!("the plugin passed more than {mib} MiB at once to the host");
            (FaultKind::TooLarge, message)
        }
        // The runtimes of most languages abort when memory is refused, so a refusal explains the
        // end.
        None | Some(Trap::UnreachableCodeReached) if budget.has_refused() => {
            let mib = budget.bytes_max() / MIB;
            (FaultKind::OutOfMemory, format!("the plugin needed more than its {mib} MiB"))
        }
        Some(Trap::UnreachableCodeReached) => {
            let message =
                "the plugin gave up: a panic, an abort or an exception that was not caught";
            (FaultKind::Trap, message.to_owned())
        }
        Some(trap) => (FaultKind::Trap, format!("the plugin trapped: {trap}")),
        None => (FaultKind::Trap, format!("the plugin was ended: {cause}")),
    }
}

/// The innermost cause. (The whole chain would repeat the backtrace.)
pub(crate) fn root(error: &wasmtime::Error) -> String {
    error.root_cause().to_string()
}

fn traceback(error: &wasmtime::Error, said: &str) -> Option<String> {
    let frames = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
    let parts: Vec<&str> = [said.trim_end(), frames.as_deref().unwrap_or_default().trim_end()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}
