use std::time::Duration;

use nightshift_openapi::{
    FinishAnswers, FinishBatch, FinishRequest, LeaseList, LeaseRenewal, LeaseRequest, RenewRequest,
    Task,
};
use reqwest::Method;

use crate::{Client, Result};

impl Client {
    /// Takes tasks to run, for a worker of an executor of kind `worker`.
    ///
    /// # Errors
    /// `executor_not_found`, `executor_not_worker`, `invalid_field`, `unavailable`.
    pub async fn lease_tasks(&self, executor: &str, request: &LeaseRequest) -> Result<LeaseList> {
        let wait = request.wait_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let call = self.request(Method::POST, &["executors", executor, "leases"]);
        let call = call.waiting(wait.map(Duration::from_secs)).for_secrets();
        Ok(call.json(request)?.send().await?.1)
    }

    /// Ends several attempts, each for itself.
    ///
    /// # Errors
    /// `invalid_field`, `body_too_large`, for all of them; what is wrong with one is said in its
    /// place of the answer.
    pub async fn finish_leases(&self, request: &FinishBatch) -> Result<FinishAnswers> {
        let call = self.request(Method::POST, &["leases", "finish"]).repeatable(true);
        Ok(call.json(request)?.send().await?.1)
    }

    /// Keeps an attempt alive, and tells how far it is.
    ///
    /// # Errors
    /// `lease_lost`: stop the work. `invalid_field`.
    pub async fn renew_lease(&self, token: &str, request: &RenewRequest) -> Result<LeaseRenewal> {
        let call = self.request(Method::POST, &["leases", token, "renew"]).with_secret(token);
        Ok(call.repeatable(request.logs.is_empty()).json(request)?.send().await?.1)
    }

    /// Ends an attempt and returns the task's record.
    ///
    /// # Errors
    /// `lease_lost`: the attempt had ended already. `invalid_field`, `too_deep`.
    pub async fn finish_lease(&self, token: &str, request: &FinishRequest) -> Result<Task> {
        let call = self
            .request(Method::POST, &["leases", token, "finish"])
            .with_secret(token)
            .repeatable(true);
        Ok(call.json(request)?.send().await?.1)
    }

    /// Gives an attempt back that was not begun; it does not count.
    ///
    /// # Errors
    /// `lease_lost`.
    pub async fn release_lease(&self, token: &str) -> Result<()> {
        let call = self
            .request(Method::POST, &["leases", token, "release"])
            .with_secret(token)
            .repeatable(true);
        call.send_for_nothing().await
    }
}
