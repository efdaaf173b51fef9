use std::time::Duration;

use nightshift_openapi::{
    Explanation, LogList, Task, TaskBatch, TaskIds, TaskList, TaskRequest, TaskResult, TaskState,
    TaskStatus, Timestamp,
};
use reqwest::{Method, StatusCode};
use uuid::Uuid;

use crate::{Client, Result};

/// What may be said beside the task when it is enqueued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnqueueOptions {
    /// Makes the request safe to repeat.
    pub idempotency_key: Option<String>,
    /// Answer when the task has ended, or after this time (in whole seconds, at most 50).
    pub wait: Option<Duration>,
    /// W3C trace context, passed on to the executor.
    pub traceparent: Option<String>,
}

/// The answer to [`Client::create_task`].
#[derive(Clone, Debug, PartialEq)]
pub struct Enqueued {
    /// The record.
    pub task: Task,
    /// False when the task had been stored before, be it by an earlier try of this call.
    pub created: bool,
}

/// Which tasks a list shows; each `None` lets everything through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskFilter {
    /// Only tasks with this status.
    pub status: Option<TaskStatus>,
    /// Only tasks of this queue.
    pub queue_name: Option<String>,
    /// Only tasks with this path, or, ending with `*`, with this prefix.
    pub task_path: Option<String>,
    /// Only tasks of this executor.
    pub executor: Option<String>,
    /// Only tasks with this label, as `key=value`.
    pub label: Option<String>,
    /// Only tasks enqueued after this time.
    pub enqueued_after: Option<Timestamp>,
    /// Only tasks enqueued before this time.
    pub enqueued_before: Option<Timestamp>,
    /// Tasks of one page.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

fn seconds(wait: Option<Duration>) -> Option<u64> {
    wait.map(|wait| wait.as_secs())
}

impl Client {
    /// Enqueues a task and returns once it is stored.
    ///
    /// # Errors
    /// `id_conflict`, `idempotency_mismatch`, `invalid_field`, `too_deep`, `body_too_large`,
    /// `overloaded`, `unavailable`.
    pub async fn create_task(
        &self,
        request: &TaskRequest,
        options: &EnqueueOptions,
    ) -> Result<Enqueued> {
        let prefer = seconds(options.wait).map(|wait| format!("wait={wait}"));
        let (status, task) = self
            .request(Method::POST, &["tasks"])
            .header("Prefer", prefer.as_deref())
            .header("Idempotency-Key", options.idempotency_key.as_deref())
            .header("traceparent", options.traceparent.as_deref())
            .waiting(options.wait)
            .repeatable(request.id.is_some() || options.idempotency_key.is_some())
            .json(request)?
            .send()
            .await?;
        Ok(Enqueued { task, created: status == StatusCode::CREATED })
    }

    /// Enqueues 1 to 10,000 tasks, all or none.
    ///
    /// # Errors
    /// As [`Client::create_task`], and `batch_size`; the problem's pointer names the task.
    pub async fn create_tasks(&self, batch: &TaskBatch) -> Result<TaskIds> {
        let all_have_ids = batch.tasks.iter().all(|task| task.id.is_some());
        let call = self.request(Method::POST, &["tasks", "batch"]).repeatable(all_have_ids);
        Ok(call.json(batch)?.send().await?.1)
    }

    /// One page of tasks, newest first.
    ///
    /// # Errors
    /// `invalid_query`, `invalid_cursor`.
    pub async fn list_tasks(&self, filter: &TaskFilter) -> Result<TaskList> {
        let call = self
            .request(Method::GET, &["tasks"])
            .query("status", filter.status)
            .query("queue_name", filter.queue_name.as_ref())
            .query("task_path", filter.task_path.as_ref())
            .query("executor", filter.executor.as_ref())
            .query("label", filter.label.as_ref())
            .query("enqueued_after", filter.enqueued_after)
            .query("enqueued_before", filter.enqueued_before)
            .query("limit", filter.limit)
            .query("cursor", filter.cursor.as_ref());
        Ok(call.send().await?.1)
    }

    /// The whole record; with `wait`, once the task has ended or that time has passed.
    ///
    /// # Errors
    /// `task_not_found`.
    pub async fn get_task(&self, id: Uuid, wait: Option<Duration>) -> Result<Task> {
        let call = self.task(Method::GET, id, &[]).query("wait", seconds(wait)).waiting(wait);
        Ok(call.send().await?.1)
    }

    /// What changes while the task runs.
    ///
    /// # Errors
    /// `task_not_found`.
    pub async fn get_task_status(&self, id: Uuid) -> Result<TaskState> {
        Ok(self.task(Method::GET, id, &["status"]).send().await?.1)
    }

    /// How the task ended; its status says whether it has. With `wait`, once it has or that time
    /// has passed.
    ///
    /// # Errors
    /// `task_not_found`.
    pub async fn get_task_result(&self, id: Uuid, wait: Option<Duration>) -> Result<TaskResult> {
        let call = self.task(Method::GET, id, &["result"]).query("wait", seconds(wait));
        Ok(call.waiting(wait).send().await?.1)
    }

    /// One page of the task's log, oldest first.
    ///
    /// # Errors
    /// `task_not_found`, `invalid_query`, `invalid_cursor`.
    pub async fn get_task_logs(
        &self,
        id: Uuid,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<LogList> {
        let call =
            self.task(Method::GET, id, &["logs"]).query("cursor", cursor).query("limit", limit);
        Ok(call.send().await?.1)
    }

    /// Why the task is where it is.
    ///
    /// # Errors
    /// `task_not_found`.
    pub async fn explain_task(&self, id: Uuid) -> Result<Explanation> {
        Ok(self.task(Method::GET, id, &["explain"]).send().await?.1)
    }

    /// Cancels the task. A running one is asked to stop; with `force` its attempt ends at once.
    ///
    /// # Errors
    /// `task_finished`, `task_not_found`.
    pub async fn cancel_task(&self, id: Uuid, force: bool) -> Result<Task> {
        let call = self.task(Method::POST, id, &["cancel"]).query("force", force.then_some(true));
        Ok(call.repeatable(true).send().await?.1)
    }

    /// Makes a FAILED or CANCELLED task READY again.
    ///
    /// # Errors
    /// `task_not_retryable`, `unique_key_taken`, `task_not_found`.
    pub async fn retry_task(&self, id: Uuid) -> Result<Task> {
        Ok(self.task(Method::POST, id, &["retry"]).send().await?.1)
    }

    /// Deletes a finished task.
    ///
    /// # Errors
    /// `task_not_finished`, `task_not_found`.
    pub async fn delete_task(&self, id: Uuid) -> Result<()> {
        self.task(Method::DELETE, id, &[]).send_for_nothing().await
    }

    fn task(&self, method: Method, id: Uuid, rest: &[&str]) -> crate::client::Call {
        let id = id.to_string();
        let segments: Vec<&str> = ["tasks", &id].into_iter().chain(rest.iter().copied()).collect();
        self.request(method, &segments)
    }
}
