use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, CommandFactory};

use super::Cli;

/// Write manual pages of all commands into a directory.
#[derive(Args)]
pub(super) struct Man {
    /// Where the pages go; it has to exist
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        clap_mangen::generate_to(Cli::command(), &self.directory).with_context(|| {
            format!("the manual pages cannot be written to {}", self.directory.display())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
