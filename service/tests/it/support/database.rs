use diesel::{
    Connection, PgConnection, RunQueryDsl, SqliteConnection, connection::SimpleConnection,
    sql_query,
};
use tempfile::TempDir;

/// A database of its own for one test, gone afterwards.
pub enum Database {
    Sqlite(TempDir),
    Postgres {
        admin: String,
        name: String,
    },
    /// Another one's, which deletes it.
    Borrowed(String),
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// On the server that `make test` starts.
    pub fn postgres() -> Self {
        let admin = std::env::vars()
            .find_map(|(name, value)| (name == "TEST_POSTGRES_URL").then_some(value))
            .expect("TEST_POSTGRES_URL is not set: run `make test`, or `make test-sqlite`");
        let name = format!("test_{}", nightshift::entropy::Entropy::from_system().uuid().simple());
        let mut connection = PgConnection::establish(&admin).unwrap();
        sql_query(format!("CREATE DATABASE {name}")).execute(&mut connection).unwrap();
        Self::Postgres { admin, name }
    }

    /// The same database through a pooler that gives each transaction another connection.
    pub fn pooled_url(&self) -> String {
        let Self::Postgres { name, .. } = self else { panic!("SQLite has no pooler") };
        let pooler = std::env::vars()
            .find_map(|(name, value)| (name == "TEST_PGBOUNCER_URL").then_some(value))
            .expect("TEST_PGBOUNCER_URL is not set: run `make test`");
        format!("{pooler}/{name}")
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("test.db").display()),
            Self::Borrowed(url) => url.clone(),
            Self::Postgres { admin, name } => {
                let (server, _) = admin.rsplit_once('/').unwrap();
                format!("{server}/{name}")
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Postgres { admin, name } = self
            && let Ok(mut connection) = PgConnection::establish(admin)
        {
            let drop = sql_query(format!("DROP DATABASE {name} WITH (FORCE)"));
            drop.execute(&mut connection).ok();
        }
    }
}

/// Keeps everybody else from writing to this SQLite database until it is committed.
pub fn hold_writing(database_url: &str) -> SqliteConnection {
    let file = database_url.strip_prefix("sqlite://").unwrap();
    let mut connection = SqliteConnection::establish(file).unwrap();
    connection.batch_execute("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE").unwrap();
    connection
}

/// Does by hand what no version of the service does.
pub fn execute(url: &str, statements: &str) {
    match url.strip_prefix("sqlite://") {
        Some(file) => {
            let mut connection = SqliteConnection::establish(file).unwrap();
            connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
            connection.batch_execute(statements).unwrap();
        }
        None => PgConnection::establish(url).unwrap().batch_execute(statements).unwrap(),
    }
}
