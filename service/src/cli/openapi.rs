use std::{io::Write, process::ExitCode};

use clap::Args;

use crate::api;

/// Print the OpenAPI document.
#[derive(Args)]
pub(super) struct OpenApi {}

impl OpenApi {
    #[expect(clippy::unused_self, reason = "every command runs alike")]
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        writeln!(std::io::stdout().lock(), "{}", api::document().to_pretty_json()?)?;
        Ok(ExitCode::SUCCESS)
    }
}
