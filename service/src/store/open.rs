//! Opens the store: makes its connections, starts its threads, and ends the attempts that a dead
//! process has left.

use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;
use tokio::sync::{Semaphore, mpsc};

use super::{
    Closing, Opened, Result, Store, Surroundings, TokenTable,
    asks::Asks,
    feed::Feed,
    file::{DatabaseFile, FileLock},
    floors::Floors,
    guard::Guard,
    health::{Health, Reconnect},
    inspect,
    link::{self, Connection, Link},
    listen::{self, Listener},
    log_room, migrate as migrations,
    pool::{self, Pool},
    postgres,
    registry::Registry,
    rows, schema, secrets,
    signals::Signals,
    timekeeper::Timekeeper,
    tokens,
    vacuum::Vacuum,
    writer::{self, Writer},
};
use crate::{
    config::{Database, DatabaseUrl},
    domain::Timestamp,
    vault::Vault,
    vital::Vital,
};

/// Brings the schema up to date without opening the store, and returns the migrations that have
/// run.
pub fn migrate(database: &Database) -> anyhow::Result<Vec<String>> {
    let _lock = FileLock::take(&database.url)?;
    let guard = Guard::of(&database.url)?;
    bring_up_to_date(database, &guard, &mut pool::open_writer(database, &guard)?)
}

/// Runs the migrations. PostgreSQL needs another connection for that, since the guard cuts the
/// writer's connection long before a large migration is done.
fn bring_up_to_date(
    database: &Database,
    guard: &Guard,
    writer: &mut Connection,
) -> anyhow::Result<Vec<String>> {
    match writer {
        Connection::Sqlite(_) => migrations::run(writer),
        Connection::Postgres(_) => migrations::run(&mut pool::open_sweeper(database, guard)?),
    }
}

impl Store {
    /// Opens the database, brings its schema up to date and starts the store's threads.
    pub fn open(
        database: &Database,
        deliveries_max: u32,
        surroundings: Surroundings,
        vault: &Vault,
    ) -> anyhow::Result<Opened> {
        let Surroundings { clock, entropy, memory, metrics, vital } = surroundings;
        // First, so that the second process on an SQLite file changes nothing in it.
        let lock = FileLock::take(&database.url)?;
        let guard = Guard::watched(&database.url, &vital)?;
        let mut connection = pool::open_writer(database, &guard)?;
        if inspect::has_unsaid_pooler(database, &guard)? {
            tracing::warn!("{}", postgres::UNSAID_POOLER);
        }
        bring_up_to_date(database, &guard, &mut connection)?;
        secrets::renew(&mut connection, vault)?;
        if lock.is_some() {
            end_those_before(&mut connection, clock.now())?;
        }
        let tokens = load_tokens(&mut connection)?;
        let file = Arc::new(DatabaseFile::opened(&database.url)?);
        let pool = Pool::open(database, Arc::clone(&file), &guard)?;
        let (signals, cancels) = Signals::new();
        let (commands, receiver) = mpsc::channel(writer::QUEUE_COMMANDS_MAX);
        let (outbox, letters) = sync_channel(listen::OUTBOX_MAX);
        let listener = database.listen_url.clone().map(|url| {
            let connect = Box::new(listening(url, Arc::clone(&guard)));
            let (entropy, signals) = (Arc::clone(&entropy), Arc::clone(&signals));
            let name = entropy.uuid().simple().to_string();
            let listener = Listener { connect, entropy, signals, outbox: letters, name };
            vital.thread("listener", move || listener.run())
        });
        let listener = listener.transpose()?;
        let health = Arc::new(Health::new());
        let way = Way { database: database.clone(), file: Arc::clone(&file), guard };
        let guard = Arc::clone(&way.guard);
        let (keeper_until, keeper) = start_keeper(way.clone(), Arc::clone(&health), &vital)?;
        let writer = Writer {
            connection: Some(connection),
            connect: reconnecting(way),
            reconnect: Reconnect::default(),
            file: Arc::clone(&file),
            health: Arc::clone(&health),
            clock: Arc::clone(&clock),
            timekeeper: Timekeeper::default(),
            entropy,
            signals: Arc::clone(&signals),
            outbox: listener.is_some().then_some(outbox),
            _keeper: keeper_until,
            registry: Registry::empty(),
            floors: Floors::new(),
            deliveries_max,
            memory: Arc::clone(&memory),
            metrics,
        };
        let writer = vital.thread("writer", move || writer.run(receiver))?;
        let store = Self {
            commands,
            room: Arc::new(Semaphore::new(writer::QUEUE_KIB_MAX)),
            log_room: Arc::new(Semaphore::new(log_room::LOG_KIB_MAX)),
            pool,
            file,
            health,
            signals,
            feed: Arc::new(Feed::new()),
            idle_poll: idle_poll(lock.is_none(), listener.is_some()),
            counting: Arc::default(),
            asks: Arc::new(Asks::new(Arc::clone(&clock))),
            memory,
            clock,
        };
        Ok(Opened {
            store,
            cancels,
            closing: Closing { writer, listener, keeper, guard, _lock: lock },
            tokens,
        })
    }
}

/// Ends the attempts that ran in a request of the process before. This process holds the lock of
/// the file, so that other one is dead.
fn end_those_before(connection: &mut Connection, now: Timestamp) -> anyhow::Result<()> {
    connection
        .transaction(|link| abandon_requests(link, now))
        .map_err(anyhow::Error::from)
        .context("cannot end the attempts of the process before")
}

fn load_tokens(connection: &mut Connection) -> anyhow::Result<TokenTable> {
    connection
        .transaction(|mut link| tokens::load(&mut link))
        .map_err(anyhow::Error::from)
        .context("cannot read the tokens")
}

/// The setting, file and guard that are needed to connect to the same database again.
#[derive(Clone)]
struct Way {
    database: Database,
    file: Arc<DatabaseFile>,
    guard: Arc<Guard>,
}

/// Returns a function that makes the listener's connections.
fn listening(url: String, guard: Arc<Guard>) -> impl Fn() -> anyhow::Result<Connection> + Send {
    move || pool::open_listener(&url, &guard)
}

/// Returns a function that makes the writer's next connection. It fails where that would lead to
/// another database than the one before.
fn reconnecting(way: Way) -> Box<dyn Fn() -> anyhow::Result<Connection> + Send> {
    Box::new(move || {
        let mut connection = pool::open_writer(&way.database, &way.guard)?;
        migrations::check_still_there(&mut connection)?;
        way.file.reopened();
        Ok(connection)
    })
}

/// Starts the keeper's thread, which runs until the returned sender is dropped.
fn start_keeper(
    way: Way,
    health: Arc<Health>,
    vital: &Vital,
) -> std::io::Result<(SyncSender<()>, JoinHandle<()>)> {
    let (closing, closed) = sync_channel(1);
    let keep: Box<dyn FnOnce() + Send> = match way.database.url {
        DatabaseUrl::Sqlite(_) => Box::new(move || way.file.watch(&health, &closed)),
        DatabaseUrl::Postgres(_) => {
            let connect = Box::new(move || pool::open_sweeper(&way.database, &way.guard));
            let vacuum = Vacuum { connect, closed };
            Box::new(move || vacuum.run())
        }
    };
    Ok((closing, vital.thread("keeper", keep)?))
}

/// Lets the leases of attempts in a request end now, since no process renews them any more.
fn abandon_requests(link: Link<'_>, now: Timestamp) -> Result<()> {
    use diesel::prelude::*;
    use schema::{stage, tasks};
    let mut link = link;
    let abandoned =
        diesel::update(tasks::table.filter(stage::is_running())).filter(tasks::detached.eq(false));
    let change = abandoned.set(tasks::lease_expires_at.eq(rows::micros(now)));
    link::on_engine!(&mut link, c => change.execute(c))?;
    Ok(())
}

/// How often an idle worker's request looks for tasks without a signal. Other processes may make
/// tasks available, and without LISTEN this one does not hear of it.
fn idle_poll(shared: bool, listening: bool) -> Duration {
    Duration::from_secs(if shared && !listening { 1 } else { 5 })
}
