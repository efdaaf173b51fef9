use tokio_util::sync::CancellationToken;

/// Tells a worker to stop, from anywhere. Clones tell the same workers.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// Take no more tasks; what runs may end in its time.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stop what runs, too: its functions are told, and soon after dropped.
    pub fn at_once(&self) {
        self.drain.cancel();
        self.now.cancel();
    }

    /// One that stops with this one, but not the other way round.
    pub(super) fn child(&self) -> Self {
        Self { drain: self.drain.child_token(), now: self.now.child_token() }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    pub(super) async fn draining(&self) {
        self.drain.cancelled().await;
    }

    pub(super) fn is_now(&self) -> bool {
        self.now.is_cancelled()
    }

    pub(super) async fn now(&self) {
        self.now.cancelled().await;
    }

    /// Drains at the first SIGTERM, SIGINT or Ctrl-C, and stops at once at the second.
    pub(super) async fn at_signals(&self) -> std::io::Result<()> {
        let mut signals = Signals::listen()?;
        signals.next().await;
        tracing::info!("taking no more tasks; a second signal stops those that run");
        self.drain();
        signals.next().await;
        self.at_once();
        Ok(())
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}
