//! The settings of the database.

use std::{fmt, path::PathBuf, str::FromStr};

use anyhow::bail;
use serde::{Deserialize, Serialize};

use super::Config;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SqliteSynchronous {
    Full,
    Normal,
}

impl fmt::Display for SqliteSynchronous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        })
    }
}

impl Config {
    pub fn database(&self) -> anyhow::Result<Database> {
        let url = self.database_url.parse()?;
        let listen_url = match (&url, &self.database_listen_url, self.database_pooled) {
            (DatabaseUrl::Sqlite(_), None, false) | (DatabaseUrl::Postgres(_), None, true) => None,
            (DatabaseUrl::Sqlite(_), ..) => {
                bail!("database_listen_url and database_pooled are for PostgreSQL")
            }
            (DatabaseUrl::Postgres(_), Some(direct), _) => Some(direct.clone()),
            (DatabaseUrl::Postgres(url), None, false) => Some(url.clone()),
        };
        Ok(Database {
            url,
            synchronous: self.sqlite_synchronous,
            readers: self.database_readers,
            pooled: self.database_pooled,
            listen_url,
        })
    }
}

/// The database to use, and how.
#[derive(Clone)]
pub struct Database {
    pub url: DatabaseUrl,
    pub synchronous: SqliteSynchronous,
    /// Connections for reading.
    pub readers: u32,
    /// Whether a pooler may use another connection for each transaction.
    pub pooled: bool,
    /// A direct connection for LISTEN, if there is one.
    pub listen_url: Option<String>,
}

/// The kind of database, and where it is.
#[derive(Clone)]
pub enum DatabaseUrl {
    Sqlite(PathBuf),
    Postgres(String),
}

impl FromStr for DatabaseUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split_once("://") {
            Some(("sqlite", "")) => bail!("database_url names no file: use sqlite://PATH"),
            // SQLite would read these as a database in memory, or as a URI.
            Some(("sqlite", path)) if path.starts_with(':') || path.starts_with("file:") => bail!(
                "database_url: sqlite://{path} is no file that outlives the process, and several \
                 connections share: use sqlite://PATH"
            ),
            Some(("sqlite", path)) => Ok(Self::Sqlite(PathBuf::from(path))),
            Some(("postgres" | "postgresql", rest)) => {
                check_postgres(rest)?;
                Ok(Self::Postgres(text.to_owned()))
            }
            _ => bail!("database_url must begin with sqlite:// or postgres://"),
        }
    }
}

/// Refuses URLs that PostgreSQL's library would read in another way than the user meant.
fn check_postgres(rest: &str) -> anyhow::Result<()> {
    let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    if login.contains(['@', '/', '?', '#']) {
        bail!("database_url: @ / ? and # in a user's name or password are written %40 %2F %3F %23");
    }
    let query = place.split_once('?').map_or("", |(_, query)| query);
    let name = query.split('&').find_map(|pair| pair.strip_prefix("application_name="));
    if name.is_some_and(|name| !name.starts_with("nightshift")) {
        bail!(
            "database_url: application_name has to begin with nightshift, by which \
             `nightshift copy` sees that a service runs"
        );
    }
    Ok(())
}

/// Leaves out the PostgreSQL URL, which may hold a password, since debug output gets into logs.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(_) => f.write_str("postgres://..."),
        }
    }
}
