use nightshift_openapi::{Queue, QueueChange, QueueList};
use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// One page of queues, by name.
    ///
    /// # Errors
    /// `invalid_query`, `invalid_cursor`.
    pub async fn list_queues(&self, cursor: Option<&str>, limit: Option<u32>) -> Result<QueueList> {
        let call =
            self.request(Method::GET, &["queues"]).query("cursor", cursor).query("limit", limit);
        Ok(call.send().await?.1)
    }

    /// What lies in a queue, and its settings.
    ///
    /// # Errors
    /// `queue_not_found`, for what can be no name.
    pub async fn get_queue(&self, name: &str) -> Result<Queue> {
        Ok(self.request(Method::GET, &["queues", name]).send().await?.1)
    }

    /// Pauses, resumes or limits a queue.
    ///
    /// # Errors
    /// `queue_not_found`, `invalid_field`.
    pub async fn update_queue(&self, name: &str, change: &QueueChange) -> Result<Queue> {
        Ok(self.request(Method::PATCH, &["queues", name]).json(change)?.send().await?.1)
    }
}
