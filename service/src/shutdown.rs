//! The signals that stop the service, a worker, or a command.

use procfs::process::Process;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT and SIGHUP. All three stop the process in the same way.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

impl StopSignals {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: unless_ignored(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when the next of these signals arrives.
    pub async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hang_up => {}
        }
    }
}

/// Ctrl-C, for a command that prints something before it ends.
pub struct Interrupt(Option<Signal>);

impl Interrupt {
    pub fn listen() -> std::io::Result<Self> {
        unless_ignored(SignalKind::interrupt()).map(Self)
    }

    /// Returns when the signal arrives.
    pub async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// Listens for a signal, unless the process was started with this signal ignored, such as by nohup
/// or in the background of a script. Such a process is meant to outlive its terminal.
fn unless_ignored(kind: SignalKind) -> std::io::Result<Option<Signal>> {
    let status = Process::myself().and_then(|myself| myself.status());
    // Without /proc, assume that the signal is not ignored: an orderly stop is better than none.
    let ignored = status.map_or(0, |status| status.sigign);
    let bit = 1 << (kind.as_raw_value() - 1);
    if ignored & bit != 0 {
        return Ok(None);
    }
    signal(kind).map(Some)
}
