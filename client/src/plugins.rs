use std::time::Duration;

use nightshift_openapi::{Plugin, PluginList, RollbackRequest};
use reqwest::Method;

use crate::{Client, Result};

/// How long the service may take to compile a component.
const COMPILE_TIMEOUT: Duration = Duration::from_mins(10);

impl Client {
    /// One page of plugins, by name.
    ///
    /// # Errors
    /// `invalid_query`, `invalid_cursor`.
    pub async fn list_plugins(
        &self,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<PluginList> {
        let call =
            self.request(Method::GET, &["plugins"]).query("cursor", cursor).query("limit", limit);
        Ok(call.send().await?.1)
    }

    /// An installed plugin and its versions.
    ///
    /// # Errors
    /// `plugin_not_found`.
    pub async fn get_plugin(&self, name: &str) -> Result<Plugin> {
        Ok(self.request(Method::GET, &["plugins", name]).send().await?.1)
    }

    /// Installs a component, in place of what runs under the name.
    ///
    /// # Errors
    /// `invalid_field`, `invalid_plugin`, `body_too_large`.
    pub async fn put_plugin(&self, name: &str, component: Vec<u8>) -> Result<Plugin> {
        let call = self
            .request(Method::PUT, &["plugins", name])
            .waiting(Some(COMPILE_TIMEOUT))
            .body("application/wasm", component);
        Ok(call.send().await?.1)
    }

    /// Lets a version run that was installed before.
    ///
    /// # Errors
    /// `plugin_not_found`, also where the version is not kept any more; `invalid_field`.
    pub async fn roll_back_plugin(&self, name: &str, request: &RollbackRequest) -> Result<Plugin> {
        let call = self.request(Method::POST, &["plugins", name, "rollback"]);
        Ok(call.repeatable(request.digest.is_some()).json(request)?.send().await?.1)
    }

    /// Forgets a plugin, all its versions, and the executor of its name.
    ///
    /// # Errors
    /// `plugin_not_found`, `plugin_in_use`.
    pub async fn delete_plugin(&self, name: &str) -> Result<()> {
        self.request(Method::DELETE, &["plugins", name]).send_for_nothing().await
    }
}
