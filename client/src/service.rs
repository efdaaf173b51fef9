use nightshift_openapi::{Json, PruneRequest, Pruned, Stats};
use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// Returns if the service answers.
    ///
    /// # Errors
    /// [`Error::Transport`](crate::Error::Transport).
    pub async fn get_health(&self) -> Result<()> {
        self.request(Method::GET, &["healthz"]).send_for_nothing().await
    }

    /// Returns if the service can claim and commit.
    ///
    /// # Errors
    /// `unavailable`, `overloaded`, `shutting_down`.
    pub async fn get_readiness(&self) -> Result<()> {
        self.request(Method::GET, &["readyz"]).send_for_nothing().await
    }

    /// Reads metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// Only those of the connection.
    pub async fn get_metrics(&self) -> Result<String> {
        self.request(Method::GET, &["metrics"]).send_for_text().await
    }

    /// Counts everything.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn get_stats(&self) -> Result<Stats> {
        Ok(self.request(Method::GET, &["stats"]).send().await?.1)
    }

    /// Deletes tasks that ended long ago, or says what would be deleted. Where there is much,
    /// `remaining` of the answer asks for more calls.
    ///
    /// # Errors
    /// `invalid_field`, `unavailable`.
    pub async fn prune_tasks(&self, request: &PruneRequest) -> Result<Pruned> {
        Ok(self.request(Method::POST, &["prune"]).json(request)?.send().await?.1)
    }

    /// The OpenAPI document.
    ///
    /// # Errors
    /// Only those of the connection.
    pub async fn get_openapi(&self) -> Result<Json> {
        Ok(self.request(Method::GET, &["openapi.json"]).send().await?.1)
    }
}
