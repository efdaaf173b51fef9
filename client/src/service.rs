use nightshift_openapi::Json;
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

    /// The OpenAPI document.
    ///
    /// # Errors
    /// Only those of the connection.
    pub async fn get_openapi(&self) -> Result<Json> {
        Ok(self.request(Method::GET, &["openapi.json"]).send().await?.1)
    }
}
