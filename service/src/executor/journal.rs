use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{
    clock::Clock,
    domain::{
        attempt::{LogLevel, Progress},
        log::{NewLog, NewLogLine},
    },
};

/// Takes down what an attempt says while it runs, until somebody comes for it.
pub struct Journal {
    clock: Arc<dyn Clock>,
    said: Mutex<Said>,
    news: Notify,
}

/// What an attempt has said that nobody has come for yet.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub log: NewLog,
    pub progress: Option<Progress>,
}

impl Journal {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, said: Mutex::default(), news: Notify::new() }
    }

    pub fn log(&self, level: LogLevel, message: String) {
        let at = Some(self.clock.now());
        self.said().log.push(NewLogLine { at, level, message });
        self.news.notify_one();
    }

    pub fn progress(&self, progress: Progress) {
        self.said().progress = Some(progress);
        self.news.notify_one();
    }

    /// Returns when something was said.
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

    /// What was said, of the log about so many bytes.
    pub fn take(&self, log_bytes: usize) -> Said {
        let mut said = self.said();
        Said { log: said.log.take(log_bytes), progress: said.progress.take() }
    }

    /// What could not be stored, before what was said meanwhile.
    pub fn put_back(&self, earlier: Said) {
        let mut said = self.said();
        said.log.put_back(earlier.log);
        said.progress = said.progress.take().or(earlier.progress);
        self.news.notify_one();
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
