//! Writes what a new plugin begins with.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{cli::output::Output, domain::names::PluginName};

const INTERFACE: &str = include_str!("../../../../plugins/wit/plugin.wit");
const PYTHON: &str =
    include_str!("../../../../plugins/examples/source-extraction/python/nightshift_plugin.py");
const PYTHON_TASKS: &str = include_str!("template.py");

#[derive(Args)]
pub(in crate::cli) struct New {
    /// The plugin's name
    name: PluginName,
    /// Language of the template; none writes the interface only
    #[arg(long, default_value = "python")]
    language: Language,
    /// Folder to write to [default: the plugin's name]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Language {
    Python,
    None,
}

impl New {
    pub(super) fn run(self, out: Output) -> anyhow::Result<()> {
        let name = self.name.as_str();
        let folder = self.folder.unwrap_or_else(|| name.into());
        let mut files = vec![("wit/plugin.wit", INTERFACE.to_owned())];
        match self.language {
            Language::Python => {
                files.push(("nightshift_plugin.py", PYTHON.to_owned()));
                files.push(("plugin.py", PYTHON_TASKS.replace("NAME", name)));
            }
            Language::None => {}
        }
        for (file, text) in &files {
            write(&folder.join(file), text)?;
        }
        let names: Vec<_> = files.iter().map(|(file, _)| folder.join(file)).collect();
        out.print(&json!({"files": names}), |_| {
            names.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join("\n")
        })
    }
}

/// A file that is there already is somebody's work.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let writing = || {
        fs::create_dir_all(file.parent().unwrap_or(file))?;
        File::create_new(file)?.write_all(text.as_bytes())
    };
    writing().with_context(|| format!("cannot write {}", file.display()))
}
