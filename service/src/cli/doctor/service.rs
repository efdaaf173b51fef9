use nightshift_client::{Error, types::ErrorCode};

use super::report::Check;
use crate::cli::client;

/// Whether a service answers there, takes the token, and can work.
pub(super) async fn check(server: &str, token: Option<&str>) -> anyhow::Result<Check> {
    Ok(match client(server, token)?.get_readiness().await {
        Ok(()) => Check::ok("service", format!("{server} is ready")),
        Err(Error::Problem { problem, .. }) if problem.code == ErrorCode::Unauthorized.name() => {
            Check::fail("service", format!("{server} refuses the token: {}", problem.detail))
        }
        Err(Error::Problem { problem, .. }) => {
            Check::fail("service", format!("{server} is not ready: {}", problem.detail))
        }
        Err(Error::Transport(error)) => {
            let why = anyhow::Error::new(error.without_url());
            Check::warn("service", format!("nothing answers at {server}: {why:#}"))
        }
        Err(error) => Check::fail(
            "service",
            format!("{server} is no nightshift: {:#}", anyhow::anyhow!(error)),
        ),
    })
}
