//! The threads on which plugins run. They are not the service's own, so that a plugin which never
//! yields its thread delays other plugins only.

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// The niceness of these threads, from 0 to 19: the service's own threads get the processor first.
const NICENESS: i32 = 10;

pub(crate) struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// Starts `number` threads for plugins, and allows `blocking` threads for calls that may block.
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
    /// Does not wait for the threads, because the last owner may be a task of another runtime,
    /// which must not block.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of the calling thread. On Linux, niceness belongs to a thread (nice(2), "C
/// library/kernel differences").
fn step_back() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread for plugins keeps its priority");
    }
}
