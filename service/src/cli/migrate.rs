use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{ConfigFile, DatabaseFlag, output::Output, warn};
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
    pub(super) fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let config = Config::load(self.file.config, self.flags)?;
        let ran = store::migrate(&config.database()?)?;
        for migration in &ran {
            say(&format!("ran {migration}"))?;
        }
        if ran.is_empty() {
            say("the schema is up to date")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
