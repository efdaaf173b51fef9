//! The owner of files and tables that a command makes. The service has to be able to use them, and
//! may run as another user or role.

use std::{
    fs::File,
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::Path,
};

use anyhow::bail;
use diesel::{
    prelude::*,
    sql_query,
    sql_types::{Bool, Nullable, Text},
};
use nix::unistd::{Uid, User, geteuid};

use super::{guard::Guard, link::Connection, pool};
use crate::config::{Database, DatabaseUrl};

/// The bit of folders in which files of many users lie side by side, such as /tmp.
const STICKY: u32 = 0o1000;

/// Gives a file that root has just made to the owner of its folder.
pub(super) fn give_to_owner_of(folder: &Path, file: &File) -> io::Result<()> {
    let folder = folder.metadata()?;
    if !geteuid().is_root() || file.metadata()?.uid() == folder.uid() {
        return Ok(());
    }
    fchown(file, Some(folder.uid()), Some(folder.gid()))
}

/// Finds the owner of the files or tables that a command is about to make. Returns a warning if a
/// service may not be able to use them, and fails if it certainly cannot.
pub fn check_owner(database: &Database) -> anyhow::Result<Option<String>> {
    match &database.url {
        DatabaseUrl::Sqlite(path) => Ok(check_folder(path)),
        DatabaseUrl::Postgres(_) => check_role(database),
    }
}

/// Returns a warning if a service may not be able to use a file that is about to be made.
pub fn check_folder(file: &Path) -> Option<String> {
    let file = std::path::absolute(file).ok()?;
    let folder = file.parent()?;
    let about = folder.metadata().ok()?;
    let (owner, this) = (Uid::from_raw(about.uid()), geteuid());
    if this.is_root() || owner == this || about.permissions().mode() & STICKY != 0 {
        return None;
    }
    let name = |uid: Uid| {
        let user = User::from_uid(uid).ok().flatten();
        user.map_or_else(|| format!("user {uid}"), |user| user.name)
    };
    let (folder, owner, this) = (folder.display(), name(owner), name(this));
    Some(format!(
        "{folder} belongs to {owner}, and what is made there now to {this}: a service of {owner} may not \
         be able to use it"
    ))
}

#[derive(QueryableByName)]
struct Roles {
    #[diesel(sql_type = Text)]
    this: String,
    #[diesel(sql_type = Bool)]
    is_superuser: bool,
    #[diesel(sql_type = Text)]
    database: String,
    #[diesel(sql_type = Nullable<Text>)]
    tables: Option<String>,
}

const ROLES: &str = "SELECT current_user::text AS this, \
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser, \
    pg_get_userbyid(datdba)::text AS database, \
    (SELECT tableowner::text FROM pg_tables \
    WHERE schemaname = current_schema() AND tablename = 'tasks') AS tables \
    FROM pg_database WHERE datname = current_database()";

fn check_role(database: &Database) -> anyhow::Result<Option<String>> {
    let guard = Guard::of(&database.url)?;
    let Connection::Postgres(mut c) = pool::open_visitor(database, &guard)? else {
        return Ok(None);
    };
    let Roles { this, is_superuser, database, tables } = sql_query(ROLES).get_result(&mut c)?;
    match tables {
        Some(owner) if owner != this => bail!(
            "the tables belong to the role {owner}, and this comes as {this}: {owner} could not use \
             what it makes; come as {owner} (postgres://{owner}@...)"
        ),
        // Another role that may make tables there was given the right to, for this service.
        None if is_superuser && database != this => Ok(Some(format!(
            "the database belongs to the role {database}, and the tables that are made now to {this}: \
             a service that comes as {database} cannot use them"
        ))),
        Some(_) | None => Ok(None),
    }
}
