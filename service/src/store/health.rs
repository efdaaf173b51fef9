//! Whether the database can be used, and how often the process connects again while it cannot.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    error::{Error, Misplaced, Result},
    link::Connection,
};
use crate::entropy::Entropy;

/// The first pause after a failed attempt to connect; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often the log says at most that the database is away. A full database takes small writes and
/// refuses large ones, so that its state changes all the time.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// The state of the database, as the writer knows it. Readers ask here, so that they need not wait
/// to find out. The log gets one line when the database goes and one when it is back, however much
/// was refused.
#[derive(Debug)]
pub(super) struct Health {
    usable: AtomicBool,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    down: bool,
    last: Option<Instant>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { usable: AtomicBool::new(true), said: Mutex::default() }
    }

    pub(super) fn down(&self, error: &Error) {
        if !self.usable.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_none_or(|last| last.elapsed() >= SAY_AGAIN) {
            *said = Said { down: true, last: Some(Instant::now()) };
            // With all causes, which the JSON log leaves out of an error.
            let error =
                anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
            tracing::error!(
                error,
                "the database cannot be used; requests are refused until it can"
            );
        }
    }

    /// A transaction was committed.
    pub(super) fn up(&self) {
        if self.usable.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut said.down) {
            tracing::info!("the database can be used again");
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.usable.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::Unavailable("the database is away".into()))
    }
}

/// Connects again, with growing pauses that differ from process to process, so that a database that
/// has just come back is not overrun.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    failures: u32,
    not_before: Option<Instant>,
    /// The last error, if another database was found in place.
    misplaced: Option<Misplaced>,
}

impl Reconnect {
    pub(super) fn attempt(
        &mut self,
        entropy: &Entropy,
        connect: &dyn Fn() -> anyhow::Result<Connection>,
    ) -> Result<Connection> {
        if self.not_before.is_some_and(|not_before| Instant::now() < not_before) {
            return Err(self.misplaced.clone().map_or_else(
                || Error::Unavailable("the database is away".into()),
                |misplaced| Error::Unavailable(misplaced.into()),
            ));
        }
        match connect() {
            Ok(connection) => {
                *self = Self::default();
                Ok(connection)
            }
            Err(error) => {
                let doubled = PAUSE_FIRST * 2_u32.saturating_pow(self.failures.min(16));
                let pause = doubled.min(PAUSE_MAX).mul_f64(0.5 + entropy.chance());
                self.failures = self.failures.saturating_add(1);
                self.not_before = Some(Instant::now() + pause);
                self.misplaced = error.downcast_ref().cloned();
                Err(Error::Unavailable(match &self.misplaced {
                    Some(misplaced) => misplaced.clone().into(),
                    None => error.into(),
                }))
            }
        }
    }
}
