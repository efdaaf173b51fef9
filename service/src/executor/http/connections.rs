//! On which connections executors are called.
//!
//! A kept-alive connection saves a handshake, but its other end may close it just as a request goes
//! out on it; then the service does not know whether the request arrived. So a connection is used
//! again only where that is not to be expected, and where it does not end the task.

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
/// How long an idle connection is kept: shorter than common servers do (2 s and more), so that
/// they do not close one just as a task goes out on it.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A connection that has been idle for so long, and no longer, can be used for the next call, if
/// its other end has not closed it.
const SURELY_IDLE: Range<Duration> = Duration::from_millis(50)..Duration::from_secs(1);
/// A server that keeps idle connections for fewer seconds closes them too early.
const KEEP_ALIVE_SECONDS_MIN: u64 = 2;
/// How long it is remembered of a server that it closes connections early.
const LEARNED_FOR: Duration = Duration::from_hours(1);
/// Servers of which something is known, and connections of each; with one more, all this is
/// forgotten and learned anew.
const SERVERS_MAX: usize = 1_000;
const CONNECTIONS_MAX: usize = 1_000;

/// The clients, and what is known of the servers.
pub(super) struct Connections {
    /// Keeps connections for the next call.
    kept: Client,
    /// Makes one for each call.
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

    /// A client for a call of this server, for a task's last attempt perhaps: that one would end
    /// the task if its connection broke.
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

/// A client that calls executors.
pub(super) fn client(
    network: &Arc<Network>,
    trusted: &[Certificate],
    idle_max: usize,
) -> reqwest::Result<Client> {
    // An answer that is encoded would be read as it is.
    let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    let client = Client::builder()
        .user_agent(concat!("nightshift/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        // A redirect would carry the task and its signature to a host that nobody registered.
        .redirect(redirect::Policy::none())
        // A proxy from the environment would see every task.
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle_max)
        .dns_resolver(Arc::clone(network));
    client.tls_certs_merge(trusted.iter().cloned()).build()
}

/// A client for one call.
pub(super) struct Chosen<'a> {
    connections: &'a Connections,
    kept: Option<Kept>,
}

/// A call that may go out on a kept connection.
struct Kept {
    server: String,
    /// There was an idle connection for it, unless the server has closed it.
    was_idle: bool,
}

impl Chosen<'_> {
    pub(super) fn client(&self) -> &Client {
        if self.kept.is_some() { &self.connections.kept } else { &self.connections.fresh }
    }

    /// Learns from the head of an answer, and returns our end of its connection.
    pub(super) fn answered(&self, response: &Response) -> Option<SocketAddr> {
        let ours = response.extensions().get::<HttpInfo>()?.local_addr();
        let announced = response.headers().get("keep-alive").and_then(|text| text.to_str().ok());
        self.learn(|server, was_idle| {
            server.answered(ours, was_idle, announced, Instant::now());
        });
        Some(ours)
    }

    /// The answer was read, so that its connection is free.
    pub(super) fn free(&self, ours: Option<SocketAddr>) {
        if let Some(ours) = ours {
            self.learn(|server, _| server.free(ours, Instant::now()));
        }
    }

    /// Learns from a connection that broke.
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

/// What was seen of one server.
#[derive(Debug, Default)]
struct Server {
    /// When it was last seen to close a connection too early.
    early_at: Option<Instant>,
    /// Calls on kept connections.
    under_way: usize,
    /// Our ends of connections, and when each became free last.
    free_since: HashMap<SocketAddr, Instant>,
}

impl Server {
    fn closes_early(&self, now: Instant) -> bool {
        self.early_at.is_some_and(|at| now.duration_since(at) < LEARNED_FOR)
    }

    /// A call goes out. Says whether there must be an idle connection for it, beside those that the
    /// calls under way may have taken.
    fn begin(&mut self, now: Instant) -> bool {
        let is_idle = |since: &&Instant| SURELY_IDLE.contains(&now.duration_since(**since));
        let idle = self.free_since.values().filter(is_idle).count();
        let was_idle = idle > self.under_way;
        self.under_way += 1;
        was_idle
    }

    /// A call was answered, and its server has perhaps announced for how long it keeps connections.
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

/// `Keep-Alive: timeout=5, max=100`.
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
        // Later it may be another server.
        assert!(!call(4, LEARNED_FOR));
        // A connection that others may have taken was not there.
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
