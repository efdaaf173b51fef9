//! The threads that plugins run on, apart from the service's own, so that a plugin that never lets
//! go of one delays other plugins only.

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// How much less than the service's own threads these are worth to the system, from 0 to 19.
const NICENESS: i32 = 10;

pub(crate) struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// So many to run on, and so many that may block.
    pub(crate) fn start(number: usize, blocking: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(number.max(1))
            .max_blocking_threads(blocking)
            .thread_name("plugin")
            .on_thread_start(step_back)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(future)
    }
}

impl Drop for Threads {
    /// Without waiting: whoever drops it may be a task of another runtime.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// On Linux niceness belongs to the thread (nice(2), "C library/kernel differences").
fn step_back() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread for plugins keeps its priority");
    }
}
