use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;

use super::command;

/// Write manual pages of all commands into a directory.
#[derive(Args)]
pub(super) struct Man {
    /// Existing directory for the pages
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        clap_mangen::generate_to(command(), &self.directory).with_context(|| {
            format!("the manual pages cannot be written to {}", self.directory.display())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
