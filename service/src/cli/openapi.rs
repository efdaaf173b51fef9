use std::process::ExitCode;

use clap::Args;

use super::output::say;
use crate::api;

/// Print the OpenAPI document.
#[derive(Args)]
pub(super) struct OpenApi {}

impl OpenApi {
    #[expect(clippy::unused_self, reason = "every command runs alike")]
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        say(&api::document().to_pretty_json()?)?;
        Ok(ExitCode::SUCCESS)
    }
}
