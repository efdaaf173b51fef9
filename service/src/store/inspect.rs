//! Inspects a database for `nightshift doctor`, without changing it and without being its only
//! process.

use diesel::{
    Connection as _,
    connection::SimpleConnection,
    migration::MigrationSource,
    prelude::*,
    result::Error as DieselError,
    sql_query,
    sql_types::{BigInt, Text},
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};
use jiff::SignedDuration;

use super::{
    file,
    flaws::{self, Flaws},
    guard::Guard,
    link::{Connection, Link, on_engine},
    migrate, pool, postgres,
    rows::micros,
    schema::executors,
    snapshots::{self, Holder},
    tokens,
};
use crate::{
    clock::Clock,
    config::{Database, DatabaseUrl},
};

/// The result of an inspection.
#[derive(Debug)]
pub struct Inspection {
    /// The engine and its version, such as `SQLite 3.50.4`.
    pub engine: String,
    pub schema: Schema,
    /// Why the database cannot be written; `None` if it can.
    pub unwritable: Option<String>,
    /// A pooler stands before the database, and the settings do not say so.
    pub unsaid_pooler: bool,
    /// By how many seconds the database's clock is ahead of this machine's; `None` on SQLite.
    pub clock_ahead: Option<f64>,
    /// The executors that are called by HTTP.
    pub executors: Vec<Called>,
    /// The transactions that have been open longest.
    pub holders: Vec<Holder>,
    /// Replication slots that keep dead rows, each with its age in transactions.
    pub slots: Vec<(String, u64)>,
    /// Whether a token was ever made.
    pub has_tokens: bool,
    /// The rows that cannot be read.
    pub flaws: Flaws,
}

/// How the schema compares with what this program needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schema {
    Current,
    /// This number of migrations has yet to run.
    Pending(usize),
    /// It has a migration that this program does not know.
    Newer(String),
}

/// A registered HTTP executor, with what matters for reaching it.
#[derive(Clone, Debug, Queryable)]
pub struct Called {
    pub name: String,
    pub url: Option<String>,
    /// Why deliveries to it are held back; `None` if they are not.
    pub hold_reason: Option<String>,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Moment {
    #[diesel(sql_type = BigInt)]
    micros: i64,
}

/// Inspects a database that exists. A missing SQLite file is an error.
pub fn inspect(database: &Database, clock: &dyn Clock) -> anyhow::Result<Inspection> {
    let guard = Guard::of(&database.url)?;
    let unsaid_pooler = has_unsaid_pooler(database, &guard)?;
    // The inspection itself has to take the pooler into account.
    let database = &Database { pooled: database.pooled || unsaid_pooler, ..database.clone() };
    let mut connection = pool::open_visitor(database, &guard)?;
    let schema = schema(&mut connection)?;
    let mut link = connection.link();
    let unwritable = match schema {
        Schema::Current => try_to_write(&mut link).err().map(|error| error.to_string()),
        Schema::Pending(_) | Schema::Newer(_) => None,
    };
    let (executors, has_tokens, flaws) = match schema {
        Schema::Current => (
            called(&mut link)?,
            !tokens::load(&mut link)?.tokens.is_empty(),
            flaws::find(&mut link)?,
        ),
        Schema::Pending(_) | Schema::Newer(_) => (Vec::new(), false, Flaws::default()),
    };
    let engine = engine(&mut link)?;
    let clock_ahead = clock_ahead(&mut link, clock)?;
    let holders = snapshots::holders(&mut link)?;
    let slots = snapshots::slots(&mut link)?;
    Ok(Inspection {
        engine,
        schema,
        unwritable,
        unsaid_pooler,
        clock_ahead,
        executors,
        holders,
        slots,
        has_tokens,
        flaws,
    })
}

fn schema(connection: &mut Connection) -> anyhow::Result<Schema> {
    match connection {
        Connection::Sqlite(c) => compare(c, &migrate::SQLITE),
        Connection::Postgres(c) => compare(c, &migrate::POSTGRES),
    }
}

/// Compares the migrations that have run with those that are known. It is rolled back, since the
/// library makes its table where there is none.
fn compare<C>(connection: &mut C, source: &EmbeddedMigrations) -> anyhow::Result<Schema>
where
    C: diesel::Connection + MigrationHarness<C::Backend>,
{
    let mut found = None;
    let looked = connection.transaction::<(), DieselError, _>(|c| {
        found = Some(c.applied_migrations());
        Err(DieselError::RollbackTransaction)
    });
    let applied = match (found, looked) {
        (Some(applied), _) => applied.map_err(anyhow::Error::from_boxed)?,
        (None, looked) => return looked.map(|()| Schema::Pending(0)).map_err(Into::into),
    };
    let known: Vec<String> = MigrationSource::<C::Backend>::migrations(source)
        .map_err(anyhow::Error::from_boxed)?
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    let applied: Vec<String> = applied.iter().map(ToString::to_string).collect();
    if let Some(newer) = applied.iter().find(|version| !known.contains(version)) {
        return Ok(Schema::Newer(newer.clone()));
    }
    Ok(match known.len() - applied.len() {
        0 => Schema::Current,
        pending => Schema::Pending(pending),
    })
}

/// Whether a pooler stands before the database and the settings do not say so.
pub(super) fn has_unsaid_pooler(database: &Database, guard: &Guard) -> anyhow::Result<bool> {
    match &database.url {
        DatabaseUrl::Postgres(url) if !database.pooled => postgres::is_pooled(url, guard),
        DatabaseUrl::Postgres(_) | DatabaseUrl::Sqlite(_) => Ok(false),
    }
}

/// Tries an update that changes nothing, and rolls it back.
fn try_to_write(link: &mut Link<'_>) -> Result<(), DieselError> {
    fn try_on(c: &mut impl SimpleConnection) -> Result<(), DieselError> {
        c.batch_execute("UPDATE routing SET version = version")?;
        Err(DieselError::RollbackTransaction)
    }
    let written = match link {
        Link::Sqlite(c) => c.transaction(try_on),
        Link::Postgres(c) => postgres::transaction(c).run(try_on),
    };
    match written {
        Ok(()) | Err(DieselError::RollbackTransaction) => Ok(()),
        Err(error) => Err(error),
    }
}

fn called(link: &mut Link<'_>) -> anyhow::Result<Vec<Called>> {
    let query = executors::table
        .filter(executors::url.is_not_null())
        .order(executors::name)
        .select((executors::name, executors::url, executors::hold_reason));
    Ok(on_engine!(link, c => query.load(c))?)
}

fn engine(link: &mut Link<'_>) -> anyhow::Result<String> {
    let named: Named = match link {
        Link::Sqlite(c) => {
            sql_query("SELECT 'SQLite ' || sqlite_version() AS name").get_result(*c)?
        }
        Link::Postgres(c) => {
            sql_query("SELECT 'PostgreSQL ' || current_setting('server_version') AS name")
                .get_result(*c)?
        }
    };
    Ok(named.name)
}

/// Compares the database's clock with the middle of question and answer.
fn clock_ahead(link: &mut Link<'_>, clock: &dyn Clock) -> anyhow::Result<Option<f64>> {
    let Link::Postgres(c) = link else {
        return Ok(None);
    };
    let before = micros(clock.now());
    let there: Moment =
        sql_query("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS micros")
            .get_result(*c)?;
    let ahead = there.micros - before.midpoint(micros(clock.now()));
    Ok(Some(SignedDuration::from_micros(ahead).as_secs_f64()))
}

/// Whether a service holds the lock of the SQLite file, even if the file is gone.
pub fn is_in_use(database: &Database) -> bool {
    match &database.url {
        DatabaseUrl::Sqlite(path) => file::is_held(path),
        DatabaseUrl::Postgres(_) => false,
    }
}

/// Whether there is a database to inspect: an SQLite file is made by the first start.
pub fn exists(database: &Database) -> bool {
    match &database.url {
        DatabaseUrl::Sqlite(path) => path.exists(),
        DatabaseUrl::Postgres(_) => true,
    }
}
