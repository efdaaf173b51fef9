//! Chooses whether a call uses a kept-alive connection or a fresh one.
//!
//! A kept-alive connection saves a handshake, but the server may close it at the very moment when a
//! request is sent on it. Then the service cannot know whether the request arrived, and the attempt
//! is lost. Therefore a connection is kept only for servers that do not seem to close connections
//! early, and it is never used for the last attempt of a task, which would end the task.

use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper_util::client::legacy::connect::HttpInfo;
use reqwest::{
    Certificate, Client, Response,
    header::{ACCEPT_ENCODING, HeaderMap, HeaderValue},
    redirect,
};

use crate::network::Network;

/// How long connecting may take, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept. Common servers keep it for 2 s or more, so the service
/// closes it first, and no task is sent on a connection that its server is just closing.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// If a connection has been idle for a time in this range, it must be available for the next call,
/// unless the server has closed it. Before, it may not be back in the pool; later, the pool may
/// have closed it.
const SURELY_IDLE: Range<Duration> = Duration::from_millis(50)..Duration::from_secs(1);
/// A server that announces a shorter keep-alive, in seconds, closes connections too early.
const KEEP_ALIVE_SECONDS_MIN: u64 = 2;
/// For how long a server that closed a connection early gets fresh connections only.
const LEARNED_FOR: Duration = Duration::from_hours(1);
/// How many servers, and connections of each, are remembered. If there are more, all are forgotten,
/// and their behaviour is observed anew.
const SERVERS_MAX: usize = 1_000;
const CONNECTIONS_MAX: usize = 1_000;

/// The HTTP clients, and the behaviour of the servers.
pub(super) struct Connections {
    /// Keeps connections for later calls.
    kept: Client,
    /// Makes a new connection for each call.
    fresh: Client,
    servers: Mutex<HashMap<String, Server>>,
}

impl Connections {
    pub(super) fn new(network: &Arc<Network>, trusted: &[Certificate]) -> reqwest::Result<Self> {
        Ok(Self {
            kept: client(network, trusted, usize::MAX)?,
            fresh: client(network, trusted, 0)?,
            servers: Mutex::default(),
        })
    }

    /// Chooses the client for a call of this server. `is_last` says that the call is the task's
    /// last attempt, whose loss would end the task; then a fresh connection is used.
    pub(super) fn choose(&self, server: &str, is_last: bool) -> Chosen<'_> {
        let now = Instant::now();
        let mut servers = self.servers();
        if servers.len() >= SERVERS_MAX && !servers.contains_key(server) {
            servers.clear();
        }
        let seen = servers.entry(server.to_owned()).or_default();
        if is_last || seen.closes_early(now) {
            return Chosen { connections: self, kept: None };
        }
        let was_idle = seen.begin(now);
        let kept = Some(Kept { server: server.to_owned(), was_idle });
        Chosen { connections: self, kept }
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<String, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client for calls of executors. `idle_max` is the number of idle connections that it keeps for
/// each host.
pub(super) fn client(
    network: &Arc<Network>,
    trusted: &[Certificate],
    idle_max: usize,
) -> reqwest::Result<Client> {
    // Ask for an answer without encoding, since answers are not decoded.
    let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    let client = Client::builder()
        .user_agent(concat!("nightshift/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        // Following a redirect would send the task and its signature to a host that was not
        // registered.
        .redirect(redirect::Policy::none())
        // A proxy set in the environment could read every task.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle_max)
        .dns_resolver(Arc::clone(network));
    client.tls_certs_merge(trusted.iter().cloned()).build()
}

/// The client that was chosen for one call.
pub(super) struct Chosen<'a> {
    connections: &'a Connections,
    kept: Option<Kept>,
}

/// A call that may use a kept connection.
struct Kept {
    server: String,
    /// When the call began, there must have been an idle connection for it, unless the server had
    /// closed one.
    was_idle: bool,
}

impl Chosen<'_> {
    pub(super) fn client(&self) -> &Client {
        if self.kept.is_some() { &self.connections.kept } else { &self.connections.fresh }
    }

    /// Learns from the headers of an answer. Returns the local address of its connection, which
    /// identifies it.
    pub(super) fn answered(&self, response: &Response) -> Option<SocketAddr> {
        let ours = response.extensions().get::<HttpInfo>()?.local_addr();
        let announced = response.headers().get("keep-alive").and_then(|text| text.to_str().ok());
        self.learn(|server, was_idle| {
            server.answered(ours, was_idle, announced, Instant::now());
        });
        Some(ours)
    }

    /// The answer was read to its end, so its connection can be used again.
    pub(super) fn free(&self, ours: Option<SocketAddr>) {
        if let Some(ours) = ours {
            self.learn(|server, _| server.free(ours, Instant::now()));
        }
    }

    /// A connection broke: the server may have closed it early.
    pub(super) fn broke(&self) {
        self.learn(|server, _| server.early_at = Some(Instant::now()));
    }

    fn learn(&self, learn: impl FnOnce(&mut Server, bool)) {
        let Some(kept) = &self.kept else { return };
        if let Some(server) = self.connections.servers().get_mut(&kept.server) {
            learn(server, kept.was_idle);
        }
    }
}

impl Drop for Chosen<'_> {
    fn drop(&mut self) {
        self.learn(|server, _| server.under_way = server.under_way.saturating_sub(1));
    }
}

/// The observed behaviour of one server.
#[derive(Debug, Default)]
struct Server {
    /// When it was last seen to close a connection too early.
    early_at: Option<Instant>,
    /// How many calls on kept connections are under way.
    under_way: usize,
    /// The local addresses of connections, with the time at which each last became free.
    free_since: HashMap<SocketAddr, Instant>,
}

impl Server {
    fn closes_early(&self, now: Instant) -> bool {
        self.early_at.is_some_and(|at| now.duration_since(at) < LEARNED_FOR)
    }

    /// Counts a call, and says whether there must be an idle connection for it. The calls under way
    /// are subtracted, since each may have taken one of the idle connections.
    fn begin(&mut self, now: Instant) -> bool {
        let is_idle = |since: &&Instant| SURELY_IDLE.contains(&now.duration_since(**since));
        let idle = self.free_since.values().filter(is_idle).count();
        let was_idle = idle > self.under_way;
        self.under_way += 1;
        was_idle
    }

    /// A call was answered on the connection `ours`. If a new connection was made although there
    /// must have been an idle one, the server has closed that one early. `announced` is its
    /// `Keep-Alive` header.
    fn answered(
        &mut self,
        ours: SocketAddr,
        was_idle: bool,
        announced: Option<&str>,
        now: Instant,
    ) {
        let was_made = self.free_since.remove(&ours).is_none();
        if (was_idle && was_made) || announced.is_some_and(is_too_short) {
            self.early_at = Some(now);
        }
    }

    fn free(&mut self, ours: SocketAddr, now: Instant) {
        if self.free_since.len() >= CONNECTIONS_MAX {
            self.free_since.clear();
        }
        self.free_since.insert(ours, now);
    }
}

/// Reads a header such as `Keep-Alive: timeout=5, max=100`.
fn is_too_short(keep_alive: &str) -> bool {
    let seconds = keep_alive.split(',').find_map(|part| part.trim().strip_prefix("timeout="));
    let seconds = seconds.and_then(|seconds| seconds.trim().parse().ok());
    seconds.is_some_and(|seconds: u64| seconds < KEEP_ALIVE_SECONDS_MIN)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LEARNED_FOR, Server, is_too_short};

    const PAUSE: Duration = Duration::from_millis(200);

    #[test]
    fn a_connection_that_was_closed_while_idle_is_noticed() {
        let ours = |port: u16| ([127, 0, 0, 1], port).into();
        let mut now = Instant::now();
        let mut server = Server::default();
        let mut call = |port, pause| {
            now += pause;
            let was_idle = server.begin(now);
            server.answered(ours(port), was_idle, None, now);
            server.free(ours(port), now);
            server.under_way -= 1;
            server.closes_early(now)
        };
        assert!(!call(1, PAUSE) && !call(1, PAUSE), "used again");
        assert!(!call(2, Duration::from_secs(5)), "closed by ourselves");
        assert!(!call(3, Duration::ZERO), "not yet back in the pool");
        assert!(call(4, PAUSE), "there were two");
        // After that time it may be another server.
        assert!(!call(4, LEARNED_FOR));
        // The second call cannot count on the connection, which the first may have taken.
        let mut busy = Server::default();
        busy.free(ours(1), now);
        assert!(busy.begin(now + PAUSE) && !busy.begin(now + PAUSE));
    }

    #[test]
    fn what_a_server_announces_is_read() {
        for short in ["timeout=1", "timeout=0, max=100", "max=5, timeout=1"] {
            assert!(is_too_short(short), "{short}");
        }
        for long in ["timeout=2", "timeout=75, max=100", "max=1", "timeout=", "x"] {
            assert!(!is_too_short(long), "{long}");
        }
    }
}
