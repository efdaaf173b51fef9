//! A Unix socket to listen on.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use anyhow::{Context, bail};

/// For its owner and group: whoever may write to it comes in.
const MODE: u32 = 0o660;

/// Makes the socket, in place of one that nobody listens on any more: a process that is killed leaves
/// its own behind.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if path.symlink_metadata().is_ok_and(|about| about.file_type().is_socket()) {
        match UnixStream::connect(path) {
            Ok(_) => bail!("another process listens on {}", path.display()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)
                .with_context(|| format!("cannot remove the old {}", path.display()))?,
            // Why it cannot be used, the next step says.
            Err(_) => {}
        }
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot listen on unix:{}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(listener)
}
