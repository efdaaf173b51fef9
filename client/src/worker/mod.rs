//! Makes a program a worker: it takes tasks of an executor of kind `worker`, and runs a function
//! for each. Needs the feature `worker`.
//!
//! ```no_run
//! use nightshift_client::{
//!     Client, Error,
//!     worker::{Context, Failure, Worker},
//! };
//!
//! async fn add(_: Context, (a, b): (i64, i64)) -> Result<i64, Failure> {
//!     Ok(a + b)
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let client = Client::new("http://127.0.0.1:8700")?;
//!     Worker::new(client, "sky").task("sky.add", add).register().run().await
//! }
//! ```
//!
//! # What a function takes
//!
//! A [`Context`], and the task's arguments as any type that serde reads: a tuple or a list takes
//! them by place; a map, by name; a struct, either way, as a function in Python does; a plain
//! value (a number, a string, an [`Option`]) is the only one. Arguments that do not fit fail the
//! task with class `nightshift.ArgumentsDoNotFit`, and are not tried again.
//!
//! ```
//! use nightshift_client::worker::{Context, Failure};
//!
//! /// Takes `["m31.fits"]`, `["m31.fits", 3]`, or `{"image": "m31.fits", "threshold": 3}`.
//! #[derive(serde::Deserialize)]
//! struct Extract {
//!     image: String,
//!     #[serde(default)]
//!     threshold: Option<f64>,
//! }
//!
//! async fn extract_sources(context: Context, input: Extract) -> Result<Vec<f64>, Failure> {
//!     context.progress(0.1, "reading");
//!     let image = tokio::fs::read(&input.image).await?;
//! #   drop(image);
//!     Ok(Vec::new())
//! }
//! ```
//!
//! # How it ends
//!
//! | The function | The task |
//! |---|---|
//! | returns `Ok` | has succeeded with that value |
//! | returns a [`Failure`], or an error that becomes one | is tried again while attempts are left, unless the failure says [`retryable(false)`](Failure::retryable) |
//! | panics | the same, with class `panic` |
//! | is told to stop since the task is cancelled ([`Context::cancelled`]), and returns | is CANCELLED |
//! | does not return within ten seconds of the cancel, or its time is over | has ended without it: the function is dropped at its next `await` |
//! | loses its lease, as the service says | goes to another worker; the function is dropped |
//!
//! Heartbeats are sent from a thread of the worker's own, so that a function that blocks, or a
//! runtime of one thread, does not lose its lease; they carry [`Context::progress`] and
//! [`Context::log`]. A function that blocks cannot be stopped, though: give blocking work to
//! `spawn_blocking`.
//!
//! When the service is away, the worker asks on with growing pauses. Functions go on, also when their
//! leases would have run out, up to the end of their attempts' time; when the service is back it says
//! which leases hold, and is told what has ended. What it does it tells through `tracing`.

mod attempt;
mod bind;
mod context;
mod failure;
mod functions;
mod heart;
mod notes;
mod pull;
mod stop;

use std::{fmt, panic::resume_unwind, sync::Arc, time::Duration};

use nightshift_openapi::{ExecutorKind, ExecutorRequest, LeaseRequest};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{runtime, task::spawn_blocking};
use uuid::Uuid;

use self::{attempt::Shared, functions::Functions};
pub use self::{context::Context, failure::Failure, stop::Stop};
use crate::{Client, Result, Retry};

/// A program that takes tasks and runs a function for each. See [the module](self).
#[must_use = "it takes no tasks before it runs"]
pub struct Worker {
    client: Client,
    executor: String,
    functions: Functions,
    registration: Option<ExecutorRequest>,
    request: LeaseRequest,
    concurrency: u32,
    tasks_max: u64,
    grace: Duration,
    stop_within: Duration,
}

impl Worker {
    /// A worker of an executor, which runs one task at a time.
    pub fn new(client: Client, executor: impl Into<String>) -> Self {
        Self {
            client,
            executor: executor.into(),
            functions: Functions::default(),
            registration: None,
            request: LeaseRequest { worker_id: default_id(), ..LeaseRequest::default() },
            concurrency: 1,
            tasks_max: u64::MAX,
            grace: Duration::from_secs(30),
            stop_within: Duration::from_secs(5),
        }
    }

    /// Runs the function for tasks of this path: an exact one, a prefix (`sky.*`), or all (`*`);
    /// the most specific is taken. A task without a function fails with class
    /// `nightshift.NoFunction`, and is tried again while attempts are left, since another worker
    /// may have one.
    pub fn task<I, F, W, R, E>(mut self, task_path: &str, function: F) -> Self
    where
        F: Fn(Context, I) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R, E>> + Send,
        I: DeserializeOwned + Send,
        R: Serialize + Send,
        E: Into<Failure>,
    {
        self.functions.add(task_path, function);
        self
    }

    /// Registers the executor before the first task is taken, with the paths of all functions, in
    /// place of what was registered under its name.
    pub fn register(self) -> Self {
        self.register_as(ExecutorRequest::default())
    }

    /// The same with other settings. The kind is `worker`; where there are no paths, they are
    /// those of the functions.
    pub fn register_as(mut self, request: ExecutorRequest) -> Self {
        self.registration = Some(ExecutorRequest { kind: ExecutorKind::Worker, ..request });
        self
    }

    /// How many tasks may run at once.
    pub fn concurrency(mut self, concurrency: u32) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How the worker is called in the tasks' records; by default by its host, its process, and a
    /// random part.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.request.worker_id = id.into();
        self
    }

    /// Takes tasks of these queues only.
    pub fn queue_names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.request.queue_names = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Takes no tasks of these queues.
    pub fn exclude_queue_names<S: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> Self {
        self.request.exclude_queue_names = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Ends after so many tasks.
    pub fn max_tasks(mut self, tasks: u64) -> Self {
        self.tasks_max = tasks;
        self
    }

    /// How long running tasks may go on when the worker is to stop, before their functions are
    /// told to; 30 seconds by default.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long a function that is told so may take to stop, before it is dropped; 5 seconds by
    /// default.
    pub fn stop_within(mut self, stop_within: Duration) -> Self {
        self.stop_within = stop_within;
        self
    }

    /// Takes and runs tasks until SIGTERM, SIGINT or Ctrl-C: then it takes no more, and returns
    /// when those that run have ended. A second signal, or the end of the [grace](Self::grace),
    /// stops them, and hands them back; one that may be tried only once fails with class
    /// `nightshift.WorkerStopped`.
    ///
    /// # Errors
    /// What asking on does not help: `executor_not_found`, `executor_not_worker`, `invalid_field`.
    /// It is returned when the tasks that run have ended.
    pub async fn run(self) -> Result<()> {
        let stop = Stop::default();
        let signals = async {
            if let Err(error) = stop.at_signals().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "signals do not stop this worker"
                );
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = self.run_until(&stop) => ended,
            never = signals => never,
        }
    }

    /// The same until it is told to stop. If the future is dropped, the worker stops at once.
    ///
    /// # Errors
    /// Those of [`Worker::run`].
    ///
    /// # Panics
    /// When the system has nothing left for another thread.
    pub async fn run_until(mut self, stop: &Stop) -> Result<()> {
        if let Some(request) = &mut self.registration
            && request.task_paths.is_empty()
        {
            request.task_paths = self.functions.task_paths();
        }
        let stop = stop.child();
        let shared = Arc::new(Shared {
            client: self.client.separate()?.with_retry(Retry::never()),
            functions: self.functions.clone(),
            runtime: runtime::Handle::current(),
            stop: stop.clone(),
            stop_within: self.stop_within,
        });
        let _dropped = AtOnce(stop);
        let working = spawn_blocking(move || {
            let thread = runtime::Builder::new_current_thread().enable_all().build();
            thread.expect("there is room for another thread").block_on(pull::work(self, shared))
        });
        match working.await {
            Ok(worked) => worked,
            Err(error) => error.try_into_panic().map_or(Ok(()), |panic| resume_unwind(panic)),
        }
    }
}

/// Stops a worker that nobody waits for any more.
struct AtOnce(Stop);

impl Drop for AtOnce {
    fn drop(&mut self) {
        self.0.at_once();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("executor", &self.executor)
            .field("task_paths", &self.functions.task_paths())
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

fn default_id() -> String {
    let host = gethostname::gethostname();
    let (host, process) = (host.to_string_lossy(), std::process::id());
    let random = Uuid::now_v7().as_u128() & 0xffff_ffff;
    format!("{host}.{process}.{random:08x}")
}
