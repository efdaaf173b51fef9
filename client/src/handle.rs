use std::time::Duration;

use nightshift_openapi::{Json, Task, TaskError, TaskResult, TaskState, TaskStatus};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::{Client, Error, Result};

/// How long one request waits for the end of a task.
const LONG_POLL: Duration = Duration::from_secs(30);
/// The pause after a request that was answered early, as a service does that is about to stop.
const PAUSE: Duration = Duration::from_millis(200);

/// One task of a service.
#[derive(Clone, Debug)]
pub struct TaskHandle {
    client: Client,
    id: Uuid,
}

/// Why there is nothing that a task returned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The task failed.
    #[error("task {id} failed{}", last(errors))]
    Failed {
        /// The task.
        id: Uuid,
        /// One for each attempt, oldest first.
        errors: Vec<TaskError>,
    },
    /// The task was cancelled.
    #[error("task {id} was cancelled")]
    Cancelled {
        /// The task.
        id: Uuid,
        /// One for each attempt that failed before, oldest first.
        errors: Vec<TaskError>,
    },
    /// The task has not ended within the time that was given, and goes on.
    #[error("task {id} has not ended within {limit:?}")]
    NotEnded {
        /// The task.
        id: Uuid,
        /// How long it was waited for.
        limit: Duration,
    },
    /// What the task returned is of another type.
    #[error("what task {id} returned cannot be read")]
    Unreadable {
        /// The task.
        id: Uuid,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The service could not be asked. The task may have been enqueued, and may go on.
    #[error(transparent)]
    Call(#[from] Error),
}

fn last(errors: &[TaskError]) -> String {
    let Some(error) = errors.last() else {
        return String::new();
    };
    match &error.exception_class_path {
        Some(class) => format!(": {class}: {}", error.message),
        None => format!(": {}", error.message),
    }
}

impl Client {
    /// A task that was enqueued before, or elsewhere. Nothing is asked yet.
    pub fn task_handle(&self, id: Uuid) -> TaskHandle {
        TaskHandle { client: self.clone(), id }
    }
}

impl TaskHandle {
    /// The task's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// What changes while the task runs.
    ///
    /// # Errors
    /// Those of [`Client::get_task_status`].
    pub async fn status(&self) -> Result<TaskState> {
        self.client.get_task_status(self.id).await
    }

    /// How the task ended; its status says whether it has.
    ///
    /// # Errors
    /// Those of [`Client::get_task_result`].
    pub async fn result(&self) -> Result<TaskResult> {
        self.client.get_task_result(self.id, None).await
    }

    /// Cancels the task; a running one is asked to stop.
    ///
    /// # Errors
    /// Those of [`Client::cancel_task`].
    pub async fn cancel(&self) -> Result<Task> {
        self.client.cancel_task(self.id, false).await
    }

    /// Waits until the task has ended, however long that takes, for what it returned.
    ///
    /// # Errors
    /// [`WaitError::Failed`], [`WaitError::Cancelled`], [`WaitError::Unreadable`], and
    /// [`WaitError::Call`] when the service is away for longer than the client's
    /// [`Retry`](crate::Retry) allows for.
    pub async fn wait<T: DeserializeOwned>(&self) -> Result<T, WaitError> {
        let TaskResult { id, status, return_value, errors, .. } = self.end().await?;
        match status {
            TaskStatus::Failed => Err(WaitError::Failed { id, errors }),
            TaskStatus::Cancelled => Err(WaitError::Cancelled { id, errors }),
            TaskStatus::Successful | TaskStatus::Ready | TaskStatus::Running => return_value
                .unwrap_or_else(Json::null)
                .parse_as()
                .map_err(|source| WaitError::Unreadable { id, source }),
        }
    }

    /// The same, but for no longer than `limit`.
    ///
    /// # Errors
    /// Those of [`TaskHandle::wait`], and [`WaitError::NotEnded`].
    pub async fn wait_within<T: DeserializeOwned>(&self, limit: Duration) -> Result<T, WaitError> {
        let id = self.id;
        timeout(limit, self.wait()).await.unwrap_or(Err(WaitError::NotEnded { id, limit }))
    }

    /// The result, once there is one.
    async fn end(&self) -> Result<TaskResult> {
        loop {
            let asked = Instant::now();
            let result = self.client.get_task_result(self.id, Some(LONG_POLL)).await?;
            if result.status.is_finished() {
                return Ok(result);
            }
            if asked.elapsed() < LONG_POLL {
                sleep(PAUSE).await;
            }
        }
    }
}
