use std::{process::ExitCode, time::Duration};

use clap::Args;
use nightshift_client::Client;
use tokio::time::timeout;

use super::{output::say, visible::visible};
use crate::telemetry;

/// Ask the service whether it is ready: exit status 0 if it is, else 1.
///
/// For the health checks of containers, which know no other status than these two.
#[derive(Args)]
pub(super) struct Health {
    /// How long the answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

impl Health {
    pub(super) async fn run(self, client: &Client, server: &str) -> ExitCode {
        let limit = Duration::from_secs(self.timeout);
        let why = match timeout(limit, client.get_readiness()).await {
            Ok(Ok(())) => {
                // The status is the answer; whether anybody reads the line does not matter.
                say(&format!("{server} is ready")).ok();
                return ExitCode::SUCCESS;
            }
            Ok(Err(error)) => format!("{:#}", anyhow::Error::from(error)),
            Err(_) => format!("no answer within {} s", self.timeout),
        };
        telemetry::print(&format!("error: {server} is not ready: {}", visible(&why)));
        ExitCode::FAILURE
    }
}
