use nightshift_openapi::{Executor, ExecutorChange, ExecutorList, ExecutorRequest};
use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// One page of executors, by name.
    ///
    /// # Errors
    /// `invalid_query`, `invalid_cursor`.
    pub async fn list_executors(
        &self,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<ExecutorList> {
        let call =
            self.request(Method::GET, &["executors"]).query("cursor", cursor).query("limit", limit);
        Ok(call.send().await?.1)
    }

    /// An executor's registration, without its secrets.
    ///
    /// # Errors
    /// `executor_not_found`.
    pub async fn get_executor(&self, name: &str) -> Result<Executor> {
        Ok(self.request(Method::GET, &["executors", name]).send().await?.1)
    }

    /// Registers an executor, in place of what was registered under the name.
    ///
    /// # Errors
    /// `invalid_field`.
    pub async fn put_executor(&self, name: &str, request: &ExecutorRequest) -> Result<Executor> {
        let call = self.request(Method::PUT, &["executors", name]).for_secrets();
        Ok(call.json(request)?.send().await?.1)
    }

    /// Pauses, resumes or limits an executor.
    ///
    /// # Errors
    /// `executor_not_found`, `invalid_field`.
    pub async fn update_executor(&self, name: &str, change: &ExecutorChange) -> Result<Executor> {
        Ok(self.request(Method::PATCH, &["executors", name]).json(change)?.send().await?.1)
    }

    /// Forgets an executor.
    ///
    /// # Errors
    /// `executor_not_found`.
    pub async fn delete_executor(&self, name: &str) -> Result<()> {
        self.request(Method::DELETE, &["executors", name]).send_for_nothing().await
    }
}
