use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{
    clock::Clock,
    domain::{
        Timestamp,
        attempt::{LogLevel, Progress},
    },
};

/// Takes down what an attempt says while it runs, until somebody comes for it.
pub struct Journal {
    clock: Arc<dyn Clock>,
    said: Mutex<Said>,
    news: Notify,
}

/// What an attempt has said since somebody came last.
#[derive(Debug, Default, PartialEq)]
pub struct Said {
    pub lines: Vec<(Timestamp, LogLevel, String)>,
    pub progress: Option<Progress>,
}

impl Journal {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, said: Mutex::default(), news: Notify::new() }
    }

    pub fn log(&self, level: LogLevel, line: String) {
        self.said().lines.push((self.clock.now(), level, line));
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
        said.lines.is_empty() && said.progress.is_none()
    }

    pub fn take(&self) -> Said {
        std::mem::take(&mut self.said())
    }

    /// What could not be stored, before what was said meanwhile.
    pub fn put_back(&self, earlier: Said) {
        let mut said = self.said();
        let meanwhile = std::mem::replace(&mut *said, earlier);
        said.lines.extend(meanwhile.lines);
        said.progress = meanwhile.progress.or(said.progress.take());
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
