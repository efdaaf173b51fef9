use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{ConfigFile, output::Output};
use crate::{config::Config, store};

/// Write the SQLite database to a new file, also while the service runs.
#[derive(Args)]
pub(super) struct Backup {
    /// The new file
    file: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Args, Serialize)]
struct Flags {
    /// What to back up [default: sqlite://nightshift.db]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    database_url: Option<String>,
}

impl Backup {
    pub(super) fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let config = Config::load(self.config.config, self.flags)?;
        let bytes = store::backup(&config.database()?.url, &self.file)?;
        let file = self.file.display().to_string();
        out.print(&json!({ "file": file, "bytes": bytes }), |_| format!("{file}: {bytes} bytes"))?;
        Ok(ExitCode::SUCCESS)
    }
}
