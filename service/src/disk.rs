//! How much space is free on the machine's disks.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The bytes that are free for this user at the path of a file or folder. If the path does not
/// exist yet, its nearest existing parent folder is examined; the examined path is returned, too.
pub fn free(path: &Path) -> io::Result<(u64, PathBuf)> {
    let path = std::path::absolute(path)?;
    let place = path.ancestors().find(|folder| folder.exists());
    let place = place.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let about = rustix::fs::statvfs(place)?;
    Ok((about.f_bavail.saturating_mul(about.f_frsize), place.to_owned()))
}
