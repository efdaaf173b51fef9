//! Makes a backup of an SQLite file while a service uses it.

use std::{fs::File, path::Path};

use anyhow::{Context, bail, ensure};
use diesel::{
    connection::SimpleConnection, prelude::*, sql_query, sql_types::Text, sqlite::SqliteConnection,
};
use tempfile::NamedTempFile;

use super::{owner, pool};
use crate::config::DatabaseUrl;

#[derive(QueryableByName)]
struct Check {
    #[diesel(sql_type = Text)]
    quick_check: String,
}

/// Writes the state that is committed at this moment to a new file, and returns the file's size in
/// bytes. The file gets its name only after it is complete, checked and on the disk.
pub fn backup(url: &DatabaseUrl, file: &Path) -> anyhow::Result<u64> {
    let DatabaseUrl::Sqlite(path) = url else {
        bail!("this is for SQLite; pg_dump takes backups of PostgreSQL, see docs/OPERATING.md");
    };
    ensure!(path.exists(), "{} does not exist", path.display());
    ensure!(!file.exists(), "{} exists already; name a new file", file.display());
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Only its owner can read this file, since it holds executors' secrets.
    let part = NamedTempFile::with_prefix_in(".nightshift-backup-", folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    write(path, part.path()).map_err(|error| {
        let advice = pool::advice(&format!("{error:#}"));
        let (path, folder) = (path.display(), folder.display());
        error.context(format!("cannot back up {path} into {folder}{advice}"))
    })?;
    owner::give_to_owner_of(folder, part.as_file())?;
    part.as_file().sync_all()?;
    let bytes = part.as_file().metadata()?.len();
    part.persist_noclobber(file)
        .with_context(|| format!("the backup cannot be named {}", file.display()))?;
    File::open(folder)?.sync_all()?;
    Ok(bytes)
}

fn write(path: &Path, part: &Path) -> anyhow::Result<()> {
    let name = |path: &Path| path.to_str().map(str::to_owned).context("a path must be UTF-8");
    let part = name(part)?;
    let mut c = SqliteConnection::establish(&name(path)?)?;
    // The copy is made from one snapshot, while other processes go on writing.
    c.batch_execute("PRAGMA busy_timeout = 5000")?;
    sql_query("VACUUM INTO ?").bind::<Text, _>(&part).execute(&mut c)?;
    let mut copy = SqliteConnection::establish(&part)?;
    let check: Check = sql_query("PRAGMA quick_check(1)").get_result(&mut copy)?;
    ensure!(check.quick_check == "ok", "the copy is damaged: {}", check.quick_check);
    Ok(())
}
