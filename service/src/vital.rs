//! Watches the threads and tasks that the service cannot do without.
//!
//! If one of them ended, by a panic or otherwise, the process would go on answering requests
//! without doing its work. Therefore the end of one of them ends the process, and a supervisor
//! starts it again. That loses nothing, since each acknowledged write is in the database.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::{sync::watch, task};
use tokio_util::sync::CancellationToken;

/// Watches threads and tasks. Clones share the same list.
#[derive(Clone, Debug)]
pub struct Vital {
    stopping: CancellationToken,
    parts: Arc<watch::Sender<Parts>>,
}

#[derive(Debug, Default)]
struct Parts {
    all: Vec<&'static str>,
    ended: Vec<&'static str>,
}

impl Vital {
    /// Returns also the token that is cancelled when the service stops. From then on, parts may
    /// end, but not by a panic.
    pub fn new() -> (Self, CancellationToken) {
        let stopping = CancellationToken::new();
        (Self { stopping: stopping.clone(), parts: Arc::default() }, stopping)
    }

    /// Starts a watched thread. Its name appears in messages if it ends.
    pub fn thread(
        &self,
        name: &'static str,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let alive = self.watch(name);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _alive = alive;
            body();
        })
    }

    /// Starts a watched task.
    pub fn task<T: Send + 'static>(
        &self,
        name: &'static str,
        body: impl Future<Output = T> + Send + 'static,
    ) -> task::JoinHandle<T> {
        let alive = self.watch(name);
        tokio::spawn(async move {
            let _alive = alive;
            body.await
        })
    }

    /// Waits until a part has ended that should not have, and returns its name.
    pub async fn lost(&self) -> &'static str {
        let mut parts = self.parts.subscribe();
        // `borrow_and_update` comes first, so that an end after it is noticed by `changed`.
        loop {
            if let Some(&first) = parts.borrow_and_update().ended.first() {
                return first;
            }
            if parts.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The names of all parts that have ended and should not have.
    pub fn ended(&self) -> Vec<&'static str> {
        self.parts.borrow().ended.clone()
    }

    /// The names of all parts that are watched.
    pub fn names(&self) -> Vec<&'static str> {
        self.parts.borrow().all.clone()
    }

    fn watch(&self, name: &'static str) -> Alive {
        self.parts.send_modify(|parts| parts.all.push(name));
        Alive { name, vital: self.clone() }
    }
}

/// Is dropped when its part ends, in whichever way, and then reports the end.
struct Alive {
    name: &'static str,
    vital: Vital,
}

impl Drop for Alive {
    fn drop(&mut self) {
        if thread::panicking() || !self.vital.stopping.is_cancelled() {
            self.vital.parts.send_modify(|parts| parts.ended.push(self.name));
        }
    }
}
