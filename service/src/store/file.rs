//! The SQLite file: a lock keeps other services away, and checks see that it stays the file that
//! was opened.

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

/// How often the file is checked, also while the service is idle.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How many symbolic links are followed: as many as Linux follows.
const LINKS_MAX: usize = 40;
/// For the owner only: the file holds tasks and executors' secrets.
const PRIVATE: u32 = 0o600;

/// The files of an SQLite database, as this process has opened them; empty on PostgreSQL.
///
/// SQLite does not notice when its file is deleted, moved or replaced. It goes on writing to the
/// open file, and these writes are lost. So the writer compares names and open files before each
/// transaction, and once more before it answers.
#[derive(Debug)]
pub(super) struct DatabaseFile(Option<Files>);

#[derive(Debug)]
struct Files {
    /// The path as the setting names it, because a restart would open that path.
    path: PathBuf,
    main: Identity,
    /// SQLite puts the log beside the real file, also where `path` is a symbolic link.
    log: PathBuf,
    /// The log that the open connections write to; `None` while the writer has no connection.
    logged: Mutex<Option<Identity>>,
}

/// Identifies a file. No other file gets the same numbers while this one is open, and the readers'
/// connections keep it open.
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
    /// Notes the files that were just opened.
    pub(super) fn opened(url: &DatabaseUrl) -> anyhow::Result<Self> {
        let DatabaseUrl::Sqlite(path) = url else {
            return Ok(Self(None));
        };
        let main = Identity::of(path).with_context(|| format!("{} is gone", path.display()))?;
        let log = beside(&place(path)?, "-wal");
        let logged = Mutex::new(Identity::of(&log));
        Ok(Self(Some(Files { path: path.clone(), main, log, logged })))
    }

    /// Fails while the files in place are not the ones that were opened. It costs two calls of
    /// `stat`.
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

    /// The writer has no connection. The last connection that closes deletes the log, so that a
    /// missing log is no error now.
    pub(super) fn closed(&self) {
        self.set_log(|_log| None);
    }

    /// The writer has a connection again; the log may be another file.
    pub(super) fn reopened(&self) {
        self.set_log(Identity::of);
    }

    fn set_log(&self, of: impl FnOnce(&Path) -> Option<Identity>) {
        if let Some(files) = &self.0 {
            *files.logged.lock().unwrap_or_else(PoisonError::into_inner) = of(&files.log);
        }
    }

    /// Reports a file that is gone, also while no request comes. Ends when the sender of `closed`
    /// is dropped.
    pub(super) fn watch(&self, health: &Arc<Health>, closed: &Receiver<()>) {
        while closed.recv_timeout(LOOK_PERIOD) == Err(RecvTimeoutError::Timeout) {
            if let Err(misplaced) = self.check() {
                health.down(&misplaced);
            }
        }
    }
}

/// The lock on an SQLite database, held as long as the store is open. Without it a second process
/// would believe the first one dead and run its tasks again.
///
/// It is on a file of its own: a process that closes the database's own file, whatever it was
/// opened for, loses the locks that SQLite has on it.
#[derive(Debug)]
pub(super) struct FileLock(File);

impl Drop for FileLock {
    /// Unlocks by itself: closing the file is not enough while a child process that was just forked
    /// has a copy of it.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock on the database file could not be given up");
        }
    }
}

impl FileLock {
    /// Takes the lock; fails if another process has it. PostgreSQL needs none, since replicas share
    /// it.
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

    /// Opens the lock's file. It is named after the real file, so that there is one lock whatever
    /// symbolic link the database is opened by.
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
            // A user who can open the file can lock it, and earlier versions made it readable for
            // all.
            if file.metadata()?.permissions().mode() & 0o077 != 0 {
                file.set_permissions(Permissions::from_mode(PRIVATE))?;
            }
            Ok(file)
        };
        let file = open().with_context(|| format!("cannot write {}", name.display()))?;
        Ok((name, file))
    }
}

/// Whether a service holds the lock of this file, even if the file itself has been removed.
pub(super) fn is_held(path: &Path) -> bool {
    let Ok(place) = place(path) else { return false };
    let Ok(file) = File::open(beside(&place, ".lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Refuses a file with several hard links. SQLite puts its log beside the name that a file was
/// opened by: with two names, half of the commits would be in one log and half in the other. The
/// lock is named after one name, too, and does not keep them apart.
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

/// The real path of the file, or the path at which it will be made. Symbolic links are followed, as
/// SQLite does.
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
        // A symbolic link to a file that does not exist yet.
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

/// Makes the file if it is missing, readable by its owner only. SQLite gives its other files the
/// same mode and owner. If the file cannot be made, SQLite reports why when it opens it.
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
