use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{ConfigFile, DatabaseFlag, output::Output, warn};
use crate::{config::Config, store};

/// Bring the database's schema up to date, and stop.
///
/// Run it as the user, and the role of PostgreSQL, that the service has. Files of an SQLite database that
/// root makes belong to the owner of their folder.
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
        let database = config.database()?;
        warn(store::check_owner(&database)?);
        let ran = store::migrate(&database)?;
        out.print(&json!({ "ran": ran }), |_| {
            if ran.is_empty() {
                return "the schema is up to date".to_owned();
            }
            let lines = ran.iter().map(|migration| format!("ran {migration}"));
            lines.collect::<Vec<_>>().join("\n")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
