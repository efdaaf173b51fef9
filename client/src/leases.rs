use nightshift_openapi::{FinishRequest, LeaseRenewal, RenewRequest, Task};
use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// Keeps an attempt alive, and tells how far it is.
    ///
    /// # Errors
    /// `lease_lost`: stop the work. `invalid_field`.
    pub async fn renew_lease(&self, token: &str, request: &RenewRequest) -> Result<LeaseRenewal> {
        Ok(self.request(Method::POST, &["leases", token, "renew"]).json(request)?.send().await?.1)
    }

    /// Ends an attempt and returns the task's record.
    ///
    /// # Errors
    /// `lease_lost`: the attempt had ended already. `invalid_field`, `too_deep`.
    pub async fn finish_lease(&self, token: &str, request: &FinishRequest) -> Result<Task> {
        Ok(self.request(Method::POST, &["leases", token, "finish"]).json(request)?.send().await?.1)
    }

    /// Gives an attempt back that was not begun; it does not count.
    ///
    /// # Errors
    /// `lease_lost`.
    pub async fn release_lease(&self, token: &str) -> Result<()> {
        self.request(Method::POST, &["leases", token, "release"]).send_for_nothing().await
    }
}
