//! Bounds how long anything waits for PostgreSQL.
//!
//! When a server is stopped, a machine hangs or a network swallows packets, connections stay open.
//! The other side's kernel may go on acknowledging what it is sent, so that neither keepalives nor
//! `tcp_user_timeout` end them, and libpq waits for an answer for ever. So one thread looks once a
//! second at the questions that are open on all connections (diesel reports them by its
//! instrumentation), and shuts the sockets of those that wait too long. For their users these
//! connections are lost, and they make new ones.
//!
//! Where no connection gets an answer, the server is taken for gone, and all connections to it are
//! shut together: each would otherwise wait for a deadline of its own. Only connections count that
//! were made before the wait began, since a later one may lead to another server that has taken
//! over. A second thread asks the server every few seconds. So a silence is noticed while nothing
//! else is asked, and a statement that honestly takes long is not taken for a silence.
//!
//! Time is counted in looks: after a pause of this whole process there are answers that it has not
//! read.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use diesel::{
    Connection as _, ConnectionResult, QueryResult,
    connection::{Instrumentation, InstrumentationEvent, SimpleConnection},
    pg::PgConnection,
};

use super::{
    postgres,
    sockets::{self, Socket},
};
use crate::{config::DatabaseUrl, vital::Vital};

/// The time between two looks. All waits are counted in looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long a server may leave all connections without an answer. Together with `connect_timeout`
/// it bounds how long writes stop when a standby takes over.
const SILENCE_MAX: u32 = 10;
/// How long it may take to make a connection: `connect_timeout` bounds each of its addresses, but
/// not the first exchange on it.
const CONNECT_MAX: u32 = 60;
/// How long anything may take once the service stops.
const STOPPING_MAX: u32 = 5;
/// How often the server is asked whether it is there.
const ASK: Duration = Duration::from_secs(3);

/// How long a connection waits for one answer while the server answers others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// For statements that take no time.
    Prompt,
    /// For all usual statements: longer than PostgreSQL itself lets one run.
    Statement,
    /// For work that may take hours: migrations, copies, a vacuum.
    Endless,
}

impl Patience {
    fn looks(self) -> u32 {
        match self {
            Self::Prompt => SILENCE_MAX,
            Self::Statement => 45,
            Self::Endless => u32::MAX,
        }
    }
}

pub(super) struct Guard {
    lines: Mutex<Vec<Weak<Line>>>,
    /// How many looks there were.
    looks: Arc<AtomicU32>,
    stopping: AtomicBool,
    /// These are dropped with the guard, which ends its threads.
    threads: Mutex<Vec<SyncSender<()>>>,
}

impl Guard {
    /// Looks after all connections to this database until the guard is dropped. SQLite needs no
    /// guard.
    pub(super) fn of(url: &DatabaseUrl) -> std::io::Result<Arc<Self>> {
        Self::watched(url, &Vital::new().0)
    }

    /// Looks after the connections of a service, which ends if a thread of the guard ends.
    pub(super) fn watched(url: &DatabaseUrl, vital: &Vital) -> std::io::Result<Arc<Self>> {
        let guard = Arc::new(Self {
            lines: Mutex::default(),
            looks: Arc::default(),
            stopping: AtomicBool::new(false),
            threads: Mutex::default(),
        });
        if let DatabaseUrl::Postgres(url) = url {
            let url = postgres::with_defaults(url);
            guard.spawn(vital, "guard", watch)?;
            guard.spawn(vital, "asking", move |guard, dropped| ask(guard, dropped, &url))?;
        }
        Ok(guard)
    }

    fn spawn(
        self: &Arc<Self>,
        vital: &Vital,
        name: &'static str,
        run: impl FnOnce(&Weak<Self>, &Receiver<()>) + Send + 'static,
    ) -> std::io::Result<()> {
        let (held, dropped) = sync_channel(1);
        let guard = Arc::downgrade(self);
        vital.thread(name, move || run(&guard, &dropped))?;
        lock(&self.threads).push(held);
        Ok(())
    }

    /// Shortens all waits, since the service stops.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Makes a connection that is looked after, and is called `name` in the log.
    pub(super) fn connect(
        &self,
        url: &str,
        name: &'static str,
        patience: Patience,
    ) -> ConnectionResult<PgConnection> {
        let ports = sockets::ports(url);
        // Read before the connection is made, so that afterwards its own sockets can be told from
        // these.
        let others = sockets::leading_to(&ports);
        let line = Arc::new(Line {
            name,
            patience,
            looks: Arc::clone(&self.looks),
            made: AtomicU32::new(u32::MAX),
            waits: AtomicU32::new(1),
            answered: AtomicBool::new(false),
            heard: AtomicU32::new(0),
            sockets: Mutex::new(Sockets::Others(others)),
            ports,
        });
        // Before the connection is made, so that the wait for that is bounded as well.
        lock(&self.lines).push(Arc::downgrade(&line));
        let mut connection = PgConnection::establish(url)?;
        line.made();
        connection.set_instrumentation(Pulse(line));
        Ok(connection)
    }

    fn look(&self) {
        let now = self.looks.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let mut lines = lock(&self.lines);
        lines.retain(|line| line.strong_count() > 0);
        let lines: Vec<Arc<Line>> = lines.iter().filter_map(Weak::upgrade).collect();
        for line in &lines {
            line.look(now);
        }
        if let Some(since) = silence(&lines, now) {
            tracing::error!(
                seconds = SILENCE_MAX,
                "the database does not answer, though its connections are open; they are dropped \
                 and made anew"
            );
            lines.iter().filter(|line| line.is_made_by(since)).for_each(|line| line.cut());
        }
        let stopping = self.stopping.load(Ordering::Acquire);
        for line in lines.iter().filter(|line| line.is_over(stopping)) {
            tracing::warn!(
                connection = line.name,
                "a connection to the database does not answer; it is dropped and made anew"
            );
            line.cut();
        }
    }
}

/// Finds a silence: a connection has waited for `SILENCE_MAX` looks, and in these no connection
/// that was made before its wait has been answered. Returns when the wait began.
fn silence(lines: &[Arc<Line>], now: u32) -> Option<u32> {
    let waits =
        lines.iter().filter(|line| line.patience != Patience::Endless && line.is_made_by(now));
    let long = waits.map(|line| line.waited()).filter(|waited| *waited >= SILENCE_MAX);
    long.map(|waited| now.saturating_sub(waited)).find(|since| {
        let mut before = lines.iter().filter(|line| line.is_made_by(*since));
        !before.any(|line| line.has_heard_after(now.saturating_sub(SILENCE_MAX)))
    })
}

fn watch(guard: &Weak<Guard>, dropped: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = dropped.recv_timeout(LOOK) {
        if let Some(guard) = guard.upgrade() {
            guard.look();
        }
    }
}

/// Asks on a connection of its own. If none can be made, those that need one themselves report it.
fn ask(guard: &Weak<Guard>, dropped: &Receiver<()>, url: &str) {
    let mut connection = None;
    while let Err(RecvTimeoutError::Timeout) = dropped.recv_timeout(ASK) {
        let Some(guard) = guard.upgrade() else { return };
        let asked = match connection.take() {
            Some(connection) => Ok(connection),
            // The name must not look like the service's: `nightshift copy` runs this thread as
            // well, and goes on only while no session has such a name.
            None => guard.connect(url, "asking", Patience::Prompt).and_then(|mut c| {
                let named = c.batch_execute("SET application_name = 'asks for nightshift'");
                named.map(|()| c).map_err(diesel::ConnectionError::CouldntSetupConfiguration)
            }),
        };
        connection = asked.ok().and_then(|mut c| prove(&mut c).is_ok().then_some(c));
    }
}

/// Makes the server answer.
pub(super) fn prove(c: &mut PgConnection) -> QueryResult<()> {
    c.batch_execute("SELECT 1")
}

/// One connection, as far as waits for it are concerned. Moments are numbers of looks.
struct Line {
    name: &'static str,
    patience: Patience,
    /// The present moment.
    looks: Arc<AtomicU32>,
    /// The moment at which it was made; `u32::MAX` while it is being made.
    made: AtomicU32,
    /// How many looks have found the present question open, and one; 0 while nothing is asked.
    waits: AtomicU32,
    /// Whether an answer has come since the last look.
    answered: AtomicBool,
    /// The last look that has found an answer.
    heard: AtomicU32,
    sockets: Mutex<Sockets>,
    ports: BTreeSet<u16>,
}

enum Sockets {
    /// The connection is being made; these were there before.
    Others(BTreeSet<Socket>),
    Own(BTreeSet<Socket>),
}

impl Line {
    /// The connection was made, and nothing is asked on it.
    fn made(&self) {
        let own = self.own();
        if own.is_empty() {
            tracing::warn!(
                "the socket of a connection to the database is not found, so nothing bounds how long \
                 it is waited for: name its port in database_url"
            );
        }
        *lock(&self.sockets) = Sockets::Own(own);
        self.made.store(self.looks.load(Ordering::Acquire), Ordering::Release);
        self.waits.store(0, Ordering::Release);
    }

    fn own(&self) -> BTreeSet<Socket> {
        match &*lock(&self.sockets) {
            Sockets::Others(others) => {
                sockets::leading_to(&self.ports).difference(others).cloned().collect()
            }
            Sockets::Own(own) => own.clone(),
        }
    }

    fn is_made_by(&self, moment: u32) -> bool {
        self.made.load(Ordering::Acquire) <= moment
    }

    /// Notes whether an answer has come, and counts how long the question is open. The count is
    /// left alone if the answer comes at this moment, or another question.
    fn look(&self, now: u32) {
        if self.answered.swap(false, Ordering::AcqRel) {
            self.heard.store(now, Ordering::Release);
        }
        let waits = self.waits.load(Ordering::Acquire);
        if waits > 0 {
            let more = waits.saturating_add(1);
            self.waits.compare_exchange(waits, more, Ordering::AcqRel, Ordering::Acquire).ok();
        }
    }

    fn waited(&self) -> u32 {
        self.waits.load(Ordering::Acquire).saturating_sub(1)
    }

    fn has_heard_after(&self, moment: u32) -> bool {
        self.heard.load(Ordering::Acquire) > moment
    }

    fn is_over(&self, stopping: bool) -> bool {
        let patience =
            if self.is_made_by(u32::MAX - 1) { self.patience.looks() } else { CONNECT_MAX };
        self.waited() >= if stopping { patience.min(STOPPING_MAX) } else { patience }
    }

    /// Ends the wait by shutting the sockets. Once is enough, so it counts as no wait any more.
    fn cut(&self) {
        self.own().iter().for_each(Socket::shut_down);
        self.waits.store(0, Ordering::Release);
    }
}

/// Hears from diesel when a question is asked and when it is answered.
struct Pulse(Arc<Line>);

impl Instrumentation for Pulse {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        let Self(line) = self;
        if let InstrumentationEvent::StartQuery { .. } = event {
            line.waits.store(1, Ordering::Release);
        }
        if let InstrumentationEvent::FinishQuery { error, .. } = event {
            line.waits.store(0, Ordering::Release);
            // A lost connection also ends the question with an error, and that is no answer.
            if error.is_none() {
                line.answered.store(true, Ordering::Release);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
