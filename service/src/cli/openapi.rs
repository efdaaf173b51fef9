use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::output::say;
use crate::api;

/// Print the OpenAPI document.
#[derive(Args)]
pub(super) struct OpenApi {
    /// OpenAPI version; 3.0 is for tools that cannot read 3.1, and has no webhooks
    #[arg(long, value_enum, default_value_t)]
    version: Version,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Version {
    #[default]
    #[value(name = "3.1")]
    V3_1,
    #[value(name = "3.0")]
    V3_0,
}

impl OpenApi {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let document = api::document();
        say(&match self.version {
            Version::V3_1 => document.to_pretty_json()?,
            Version::V3_0 => serde_json::to_string_pretty(&api::document_3_0(&document))?,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
