use std::{io::Write, process::ExitCode};

use clap::Args;

use super::{ConfigFile, DatabaseFlag};
use crate::{config::Config, store};

/// Bring the database's schema up to date, and stop.
#[derive(Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    flags: DatabaseFlag,
}

impl Migrate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = Config::load(self.file.config, self.flags)?;
        let ran = store::migrate(&config.database()?)?;
        let mut out = std::io::stdout().lock();
        for migration in &ran {
            writeln!(out, "ran {migration}")?;
        }
        if ran.is_empty() {
            writeln!(out, "the schema is up to date")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
