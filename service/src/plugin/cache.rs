//! The folder in which machine code of plugins is kept between starts.

use std::{
    fs::{self, DirBuilder, Metadata},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// The folder of compiled plugins. Everything in it is loaded and run as code of this process, so
/// only this user may be able to write to it.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    /// If there is no lasting folder, a temporary one, which is removed at the end of the process.
    _temporary: Option<tempfile::TempDir>,
}

impl Cache {
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = path {
            return Self::at(path).with_context(|| format!("cannot use {}", path.display()));
        }
        if let Some(cache) = users_cache().and_then(|path| Self::at(&path).ok()) {
            return Ok(cache);
        }
        tracing::warn!(
            "there is no folder for compiled plugins, so each start compiles them: set plugin_cache"
        );
        let temporary = tempfile::tempdir().context("no temporary folder can be made")?;
        Ok(Self { path: temporary.path().to_owned(), _temporary: Some(temporary) })
    }

    fn at(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        // Wasmtime requires a path without symbolic links.
        let path = path.canonicalize()?;
        let about = fs::metadata(&path)?;
        if is_open(&about) || about.uid() != nix::unistd::geteuid().as_raw() {
            bail!("others can write there, and could run code as this process");
        }
        Ok(Self { path, _temporary: None })
    }

    /// The folder for wasmtime's machine code. Nothing else may be kept in it: wasmtime deletes
    /// files that it does not know, and the oldest files if there are too many.
    pub(super) fn code(&self) -> PathBuf {
        self.path.join("code")
    }
}

/// Whether other users than its owner can write to a folder.
pub fn is_open(about: &Metadata) -> bool {
    about.mode() & 0o022 != 0
}

/// The folder in which compiled plugins are kept, if there is one.
pub fn folder(set: Option<&Path>) -> Option<PathBuf> {
    set.map(Path::to_owned).or_else(users_cache)
}

/// The user's cache folder by the XDG Base Directory Specification.
fn users_cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")))?;
    Some(base.join("nightshift/plugins"))
}
