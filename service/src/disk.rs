//! How much room there is on disks.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The bytes that are free for this user where a file or folder is, or will be; and the place that was
/// asked, which is the folder above what is not there yet.
pub fn free(path: &Path) -> io::Result<(u64, PathBuf)> {
    let path = std::path::absolute(path)?;
    let place = path.ancestors().find(|folder| folder.exists());
    let place = place.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let about = rustix::fs::statvfs(place)?;
    Ok((about.f_bavail.saturating_mul(about.f_frsize), place.to_owned()))
}
