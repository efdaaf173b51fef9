use std::{io::Write, process::ExitCode};

use clap::Args;
use serde::Serialize;

use super::ConfigFile;
use crate::{config::Config, store};

/// Bring the database's schema up to date, and stop.
#[derive(Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Args, Serialize)]
struct Flags {
    /// sqlite://PATH or postgres://... [default: sqlite://nightshift.db]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    database_url: Option<String>,
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
