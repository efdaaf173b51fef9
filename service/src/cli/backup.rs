use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::json;

use super::{ConfigFile, DatabaseFlag, output::Output, warn};
use crate::{config::Config, store};

/// Copy the SQLite database to a new file; the service may run meanwhile.
///
/// Run it as the service's user, or as root: the file then gets the owner of its folder.
#[derive(Args)]
pub(super) struct Backup {
    /// The new file
    file: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    flags: DatabaseFlag,
}

impl Backup {
    pub(super) fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let config = Config::load(self.config.config, self.flags)?;
        warn(store::check_folder(&self.file));
        let bytes = store::backup(&config.database()?.url, &self.file)?;
        let file = self.file.display().to_string();
        out.print(&json!({ "file": file, "bytes": bytes }), |_| format!("{file}: {bytes} bytes"))?;
        Ok(ExitCode::SUCCESS)
    }
}
