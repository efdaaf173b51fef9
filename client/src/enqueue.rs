use std::time::Duration;

use nightshift_openapi::{Backoff, Json, TaskRequest, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{Client, EnqueueOptions, Error, Result, TaskHandle, WaitError};

/// A task that is being put together by [`Client::enqueue`].
///
/// Nothing is sent before [`send`](Self::send) or [`wait`](Self::wait). The task gets an id here,
/// so that the call may be made again until the service is known to have stored it.
#[derive(Debug)]
#[must_use = "nothing is enqueued before it is sent"]
pub struct Enqueue {
    client: Client,
    request: TaskRequest,
    options: EnqueueOptions,
    /// The first value that was given and is not JSON.
    unwritable: Option<serde_json::Error>,
}

impl Client {
    /// Begins a task for a path; what is not said comes from its executor's registration, or from
    /// the service.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # use nightshift_client::Client;
    /// # let client = Client::new("http://127.0.0.1:8700")?;
    /// let enqueued = client
    ///     .enqueue("myapp.tasks.extract_sources")
    ///     .args(("m31.fits",))
    ///     .kwargs(serde_json::json!({"threshold": 5}))
    ///     .label("target", "m31")
    ///     .send()
    ///     .await?;
    /// println!("{}", enqueued.id());
    /// let sources: Vec<(f64, f64)> = enqueued.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn enqueue(&self, task_path: impl Into<String>) -> Enqueue {
        Enqueue {
            client: self.clone(),
            request: TaskRequest::new(task_path),
            options: EnqueueOptions::default(),
            unwritable: None,
        }
    }
}

impl Enqueue {
    /// Positional arguments: a tuple (of one: `(value,)`), a list, or what else serde writes as a
    /// JSON array.
    pub fn args(mut self, args: impl Serialize) -> Self {
        self.request.args = self.written(&args);
        self
    }

    /// Keyword arguments: a struct, a map, or what else serde writes as a JSON object.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        self.request.kwargs = self.written(&kwargs);
        self
    }

    fn written(&mut self, value: &impl Serialize) -> Option<Json> {
        match Json::from_value(value) {
            Ok(json) => Some(json),
            Err(error) => {
                self.unwritable.get_or_insert(error);
                None
            }
        }
    }

    /// The queue to wait in.
    pub fn queue_name(mut self, name: impl Into<String>) -> Self {
        self.request.queue_name = Some(name.into());
        self
    }

    /// -100 to 100; the highest runs first.
    pub fn priority(mut self, priority: i64) -> Self {
        self.request.priority = Some(priority);
        self
    }

    /// Not before this time.
    pub fn run_after(mut self, time: impl Into<Timestamp>) -> Self {
        self.request.run_after = Some(time.into());
        self
    }

    /// Fails if it still waits at this time.
    pub fn expires_at(mut self, time: impl Into<Timestamp>) -> Self {
        self.request.expires_at = Some(time.into());
        self
    }

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout_seconds = Some(timeout.as_secs_f64());
        self
    }

    /// How often it is tried in all.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.request.max_attempts = Some(attempts.into());
        self
    }

    /// How long to wait between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.request.backoff = Some(backoff);
        self
    }

    /// A label to find the task by.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.labels.insert(key.into(), value.into());
        self
    }

    /// The id, instead of one made here: the same over runs of the program makes it safe to
    /// enqueue the task again.
    pub fn id(mut self, id: Uuid) -> Self {
        self.request.id = Some(id);
        self
    }

    /// Instead of an id: what enqueues with the same key again gets the first task.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.options.idempotency_key = Some(key.into());
        self
    }

    /// While a task with this key waits or runs, that one is taken instead.
    pub fn unique_key(mut self, key: impl Into<String>) -> Self {
        self.request.unique_key = Some(key.into());
        self
    }

    /// W3C trace context, passed on to the executor.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.options.traceparent = Some(traceparent.into());
        self
    }

    /// Enqueues the task, and returns once it is stored.
    ///
    /// # Errors
    /// [`Error::Request`] for arguments that are not JSON; those of [`Client::create_task`].
    pub async fn send(self) -> Result<TaskHandle> {
        let Self { client, mut request, options, unwritable } = self;
        if let Some(error) = unwritable {
            return Err(Error::Request(error));
        }
        // With a key, the content has to be the same each time.
        if options.idempotency_key.is_none() {
            request.id.get_or_insert_with(Uuid::now_v7);
        }
        let task = client.create_task(&request, &options).await?.task;
        Ok(client.task_handle(task.id))
    }

    /// Enqueues the task, and waits for what it returns; see [`TaskHandle::wait`].
    ///
    /// # Errors
    /// Those of [`Enqueue::send`] and of [`TaskHandle::wait`].
    pub async fn wait<T: DeserializeOwned>(self) -> Result<T, WaitError> {
        self.send().await?.wait().await
    }
}
