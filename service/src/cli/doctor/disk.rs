use std::path::Path;

use super::report::Check;
use crate::{
    config::{Config, DatabaseUrl},
    disk, plugin,
};

const MIB: u64 = 1024 * 1024;
/// Room below which somebody should look, and below which work may stop at any time.
const ROOM_WARN: u64 = 1024 * MIB;
const ROOM_FAIL: u64 = 64 * MIB;

/// The disks that this machine's part of the work needs.
pub(super) fn checks(config: &Config) -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    if let DatabaseUrl::Sqlite(path) = config.database()?.url {
        checks.push(if has_folder(&path) {
            check("disk of the database", &path)
        } else {
            let message = format!("the folder of {} is not there", path.display());
            Check::fail("disk of the database", message)
        });
    }
    checks.push(match plugin::cache_folder(config.plugin_cache.as_deref()) {
        Some(folder) if folder.metadata().is_ok_and(|about| plugin::is_open_cache(&about)) => {
            let message = format!("others can write into {}: chmod 700", folder.display());
            Check::fail("disk of plugin_cache", message)
        }
        Some(folder) => check("disk of plugin_cache", &folder),
        None => Check::warn(
            "disk of plugin_cache",
            "there is no folder for compiled plugins, so each start compiles them",
        ),
    });
    Ok(checks)
}

/// What is not there yet will lie in the folder above it.
fn check(name: &str, path: &Path) -> Check {
    let (free, place) = match disk::free(path) {
        Ok(found) => found,
        Err(error) => return Check::fail(name, format!("{}: {error}", path.display())),
    };
    let message = format!("{} MiB free at {}", free / MIB, place.display());
    match free {
        ..ROOM_FAIL => Check::fail(name, message),
        ROOM_FAIL..ROOM_WARN => Check::warn(name, message),
        ROOM_WARN.. => Check::ok(name, message),
    }
}

/// SQLite makes files, but no folders.
fn has_folder(path: &Path) -> bool {
    std::path::absolute(path).is_ok_and(|path| path.parent().is_some_and(Path::is_dir))
}
