//! The threads and tasks that a service cannot do without.
//!
//! Were one of them to end, by a panic or otherwise, the process would answer on and not do its
//! work. So the code that runs the service is told, and ends the process, and a supervisor starts
//! it again: each acknowledged write is in the database, and an end at any moment loses none.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::{sync::watch, task};
use tokio_util::sync::CancellationToken;

/// Watches over them. Clones watch over the same.
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
    /// From when the token is cancelled on, a part may end; but not by a panic.
    pub fn new() -> (Self, CancellationToken) {
        let stopping = CancellationToken::new();
        (Self { stopping: stopping.clone(), parts: Arc::default() }, stopping)
    }

    /// Starts a thread; its name tells people of it.
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

    /// Starts a task.
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

    /// Returns once a part has ended that should not have, and says which.
    pub async fn lost(&self) -> &'static str {
        let mut parts = self.parts.subscribe();
        loop {
            if let Some(&first) = parts.borrow_and_update().ended.first() {
                return first;
            }
            if parts.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Those that have ended and should not have.
    pub fn ended(&self) -> Vec<&'static str> {
        self.parts.borrow().ended.clone()
    }

    /// All that are watched over.
    pub fn names(&self) -> Vec<&'static str> {
        self.parts.borrow().all.clone()
    }

    fn watch(&self, name: &'static str) -> Alive {
        self.parts.send_modify(|parts| parts.all.push(name));
        Alive { name, vital: self.clone() }
    }
}

/// Lives as long as its part does.
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
