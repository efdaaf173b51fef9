//! Gathers the log lines and the progress that a plugin reports during its attempt, until the
//! attempt's loop stores them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{
    clock::Clock,
    domain::{
        attempt::{LogLevel, Progress},
        log::{NewLog, NewLogLine},
    },
};

/// Keeps log lines and progress of a running attempt until they are taken out to be stored.
pub struct Journal {
    clock: Arc<dyn Clock>,
    said: Mutex<Said>,
    news: Notify,
}

/// Log lines and progress that have not been taken out yet.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub log: NewLog,
    pub progress: Option<Progress>,
}

impl Journal {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, said: Mutex::default(), news: Notify::new() }
    }

    /// Adds a line at the present time.
    pub fn log(&self, level: LogLevel, message: String) {
        let at = Some(self.clock.now());
        self.said().log.push(NewLogLine { at, level, message });
        self.news.notify_one();
    }

    /// Replaces the progress: only the last one counts.
    pub fn progress(&self, progress: Progress) {
        self.said().progress = Some(progress);
        self.news.notify_one();
    }

    /// Returns when something was reported since the last return. `notify_one` keeps one wake-up if
    /// no call waits at that moment, so none gets lost.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    pub fn is_empty(&self) -> bool {
        let said = self.said();
        said.log.is_empty() && said.progress.is_none()
    }

    /// Bytes of the lines that wait.
    pub fn log_bytes(&self) -> usize {
        self.said().log.bytes()
    }

    /// Takes out the progress and about `log_bytes` of the log, oldest lines first.
    pub fn take(&self, log_bytes: usize) -> Said {
        let mut said = self.said();
        Said { log: said.log.take(log_bytes), progress: said.progress.take() }
    }

    /// Puts back what could not be stored: lines before those that came meanwhile, and the progress
    /// unless a newer one has come.
    pub fn put_back(&self, earlier: Said) {
        let mut said = self.said();
        said.log.put_back(earlier.log);
        said.progress = said.progress.take().or(earlier.progress);
        // So that the attempt's loop tries again, even if nothing else is reported.
        self.news.notify_one();
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
