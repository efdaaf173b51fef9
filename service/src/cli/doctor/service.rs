use nightshift_client::Error;

use super::report::Check;
use crate::cli::client;

/// Whether a service answers there, and can work.
pub(super) async fn check(server: &str) -> anyhow::Result<Check> {
    Ok(match client(server)?.get_readiness().await {
        Ok(()) => Check::ok("service", format!("{server} is ready")),
        Err(Error::Problem { problem, .. }) => {
            Check::fail("service", format!("{server} is not ready: {}", problem.detail))
        }
        Err(Error::Transport(_)) => Check::warn("service", format!("nothing answers at {server}")),
        Err(error) => Check::fail(
            "service",
            format!("{server} is no nightshift: {:#}", anyhow::anyhow!(error)),
        ),
    })
}
