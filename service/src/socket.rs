//! Makes the Unix socket on which the service listens.

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

/// Readable and writable for the owner and the group: a program that may write to the socket can
/// use the service.
const MODE: u32 = 0o660;

/// Makes the socket. A socket file on which no process listens any more is replaced, since a killed
/// process leaves its file behind.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if path.symlink_metadata().is_ok_and(|about| about.file_type().is_socket()) {
        match UnixStream::connect(path) {
            Ok(_) => bail!("another process listens on {}", path.display()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)
                .with_context(|| format!("cannot remove the old {}", path.display()))?,
            // The socket cannot be used for another reason, which `bind` will report.
            Err(_) => {}
        }
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot listen on unix:{}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(listener)
}
