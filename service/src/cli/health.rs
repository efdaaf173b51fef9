use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::{
    client,
    output::Output,
    time::{duration, shown},
    visible::visible,
};
use crate::telemetry;

/// Check whether the service is ready: exit status 0 if it is, else 1.
///
/// The status is 1, too, if the service does not answer: container health checks allow only 0 and
/// 1.
#[derive(Args)]
pub(super) struct Health {
    /// Longest time to wait for the answer: seconds, or 500ms, 1m
    #[arg(long, value_name = "TIME", default_value = "5", value_parser = duration)]
    timeout: Duration,
}

impl Health {
    pub(super) async fn run(self, server: &str, out: Output) -> ExitCode {
        // The status is the answer; whether anybody reads the line does not matter.
        match self.ask(server).await {
            Ok(()) => {
                out.print(&json!({ "server": server, "ready": true }), |_| {
                    format!("{server} is ready")
                })
                .ok();
                ExitCode::SUCCESS
            }
            Err(error) => {
                let why = format!("{error:#}");
                if out.json {
                    let answer = json!({ "server": server, "ready": false, "error": why });
                    out.print(&answer, |_| String::new()).ok();
                } else {
                    telemetry::print(&format!(
                        "error: {} is not ready: {}",
                        visible(server),
                        visible(&why)
                    ));
                }
                ExitCode::FAILURE
            }
        }
    }

    /// Asks what everybody may, without a token.
    async fn ask(&self, server: &str) -> anyhow::Result<()> {
        let client = client(server, None)?;
        match tokio::time::timeout(self.timeout, client.get_readiness()).await {
            Ok(answer) => Ok(answer?),
            Err(_elapsed) => bail!("no answer within {}", shown(self.timeout)),
        }
    }
}
