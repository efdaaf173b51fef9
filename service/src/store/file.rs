//! The SQLite file: one service has it, and it stays the file that was opened.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use anyhow::{Context, bail};

use super::{
    error::{Error, Misplaced, Result},
    health::Health,
    owner,
};
use crate::config::DatabaseUrl;

/// How often an idle service looks whether its file is still in its place.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Symbolic links that are followed, as many as Linux follows.
const LINKS_MAX: usize = 40;
/// For its owner alone: the file holds tasks and executors' secrets.
const PRIVATE: u32 = 0o600;

/// The files of an SQLite database, as this process has opened them; nothing on PostgreSQL.
///
/// A file that is deleted, moved or replaced takes writes as before, and they are never found
/// again: SQLite does not look. So the writer compares the names with what it has opened before
/// each transaction, and once more before it answers.
#[derive(Debug)]
pub(super) struct DatabaseFile(Option<Files>);

#[derive(Debug)]
struct Files {
    /// As the setting names it, since a restart would open that.
    path: PathBuf,
    main: Identity,
    /// Beside the file that is meant, which SQLite looks up, too.
    log: PathBuf,
    /// The log that the open connections write to; `None` while the writer has none.
    logged: Mutex<Option<Identity>>,
}

/// No other file has it while this one is open, and the readers' connections keep it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self { device: about.dev(), inode: about.ino() })
    }
}

impl DatabaseFile {
    /// What was just opened.
    pub(super) fn opened(url: &DatabaseUrl) -> anyhow::Result<Self> {
        let DatabaseUrl::Sqlite(path) = url else {
            return Ok(Self(None));
        };
        let main = Identity::of(path).with_context(|| format!("{} is gone", path.display()))?;
        let log = beside(&place(path)?, "-wal");
        let logged = Mutex::new(Identity::of(&log));
        Ok(Self(Some(Files { path: path.clone(), main, log, logged })))
    }

    /// Fails while the database is not what was opened. It costs two looks at a name.
    pub(super) fn check(&self) -> Result<()> {
        let Some(files) = &self.0 else {
            return Ok(());
        };
        let logged = *files.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let in_place = Identity::of(&files.path) == Some(files.main)
            && logged.is_none_or(|logged| Identity::of(&files.log) == Some(logged));
        if in_place {
            return Ok(());
        }
        Err(Error::Unavailable(Misplaced::File(files.path.clone()).into()))
    }

    /// The writer has no connection, and the last one to close takes the log with it.
    pub(super) fn closed(&self) {
        self.set_log(|_log| None);
    }

    /// The writer has a connection again, with a log that may be another one.
    pub(super) fn reopened(&self) {
        self.set_log(Identity::of);
    }

    fn set_log(&self, of: impl FnOnce(&Path) -> Option<Identity>) {
        if let Some(files) = &self.0 {
            *files.logged.lock().unwrap_or_else(PoisonError::into_inner) = of(&files.log);
        }
    }

    /// Tells of a file that is gone, also while nobody asks for anything; until `closed` is.
    pub(super) fn watch(&self, health: &Arc<Health>, closed: &Receiver<()>) {
        while closed.recv_timeout(LOOK_PERIOD) == Err(RecvTimeoutError::Timeout) {
            if let Err(misplaced) = self.check() {
                health.down(&misplaced);
            }
        }
    }
}

/// Held as long as the store is open: a second process on one SQLite file would believe the
/// first one dead and run its tasks again.
///
/// It is a file of its own. To close the database's own file, for whatever reason it was opened,
/// would take away the locks that SQLite has on it.
#[derive(Debug)]
pub(super) struct FileLock(File);

impl Drop for FileLock {
    /// Closing the file would do, if no child process had just been forked with a copy of it.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock on the database file could not be given up");
        }
    }
}

impl FileLock {
    /// Nothing to lock on PostgreSQL, which replicas share.
    pub(super) fn take(url: &DatabaseUrl) -> anyhow::Result<Option<Self>> {
        let DatabaseUrl::Sqlite(path) = url else {
            return Ok(None);
        };
        let (name, file) = Self::open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{} is in use by another nightshift; several need PostgreSQL", path.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", name.display()));
            }
        }
        refuse_second_name(path)?;
        Ok(Some(Self(file)))
    }

    /// By whatever name the database is called, its lock has one: that of the file that is meant.
    fn open(path: &Path) -> anyhow::Result<(PathBuf, File)> {
        let name = beside(&place(path)?, ".lock");
        let open = || -> io::Result<File> {
            let made = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&name);
            let file = match made {
                Ok(file) => {
                    give_to_owner_of_folder(&name, &file)?;
                    file
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    OpenOptions::new().write(true).open(&name)?
                }
                Err(error) => return Err(error),
            };
            // A user who can open it can lock it. Versions before made it for all to read.
            if file.metadata()?.permissions().mode() & 0o077 != 0 {
                file.set_permissions(Permissions::from_mode(PRIVATE))?;
            }
            Ok(file)
        };
        let file = open().with_context(|| format!("cannot write {}", name.display()))?;
        Ok((name, file))
    }
}

/// Whether a service has the file, or had it when it was still there.
pub(super) fn is_held(path: &Path) -> bool {
    let Ok(place) = place(path) else { return false };
    let Ok(file) = File::open(beside(&place, ".lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// SQLite keeps a log beside each name that it opens a file by: with two names, half of what was
/// committed would be in the one and half in the other. The lock has the name, too.
fn refuse_second_name(path: &Path) -> anyhow::Result<()> {
    let names = fs::metadata(path).map_or(1, |about| about.nlink());
    if names > 1 {
        bail!(
            "{} has {names} names (hard links), and a service on the other one would not be \
             noticed: remove all but one (find -samefile)",
            path.display()
        );
    }
    Ok(())
}

/// Where the file is, or will be made: SQLite follows symbolic links, and so does this.
fn place(path: &Path) -> anyhow::Result<PathBuf> {
    let mut place = path.to_owned();
    for _ in 0..LINKS_MAX {
        match place.canonicalize() {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot find {}", path.display()));
            }
        }
        let folder = match place.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        // A link to what is not there yet.
        if let Ok(target) = place.read_link() {
            place = folder.join(target);
            continue;
        }
        let name = place.file_name().with_context(|| format!("{} is no file", path.display()))?;
        let folder = folder
            .canonicalize()
            .with_context(|| format!("cannot find the folder of {}", path.display()))?;
        return Ok(folder.join(name));
    }
    bail!("{} is a chain of too many links", path.display())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(end);
    name.into()
}

/// Makes a new file that its owner alone can read. SQLite's other files get the same mode and owner.
/// Why it cannot be made, SQLite says.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    let Ok(place) = place(path) else { return Ok(()) };
    match OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&place) {
        Ok(file) => give_to_owner_of_folder(&place, &file),
        Err(_there_or_refused) => Ok(()),
    }
}

fn give_to_owner_of_folder(path: &Path, file: &File) -> io::Result<()> {
    match path.parent() {
        Some(folder) => owner::give_to_owner_of(folder, file),
        None => Ok(()),
    }
}
