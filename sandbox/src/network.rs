//! HTTP for plugins: only to granted hosts, and a host name only to public addresses.

use std::{
    error::Error as StdError,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{TryFutureExt, TryStreamExt};
use http::{HeaderName, HeaderValue, Method, header};
use reqwest::{Client, Request, Response, Url, redirect};
use tokio::time::Instant;

use crate::{
    bindings::nightshift::plugin::http as wit,
    limiter::{Budget, Charge},
    quarters::Quarters,
    resolve::{NotPublic, PublicOnly},
    waiters::Waiters,
};

/// How long connecting may take, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of an answer that `fetch` reads.
const FETCHED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that an HTTP/2 connection reads ahead, for one answer and for all together.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// How many idle connections to one host are kept for later runs, and how long.
const IDLE_MAX: usize = 4;
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Headers that state where a message ends, where it is sent, and what happens to its connection.
/// Only the host writes them. A plugin that could write them could make the server take a part of
/// its message for the beginning of the next request, which another run sends on the connection.
const OF_THE_CONNECTION: [HeaderName; 10] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub(crate) fn is_of_the_connection(name: &HeaderName) -> bool {
    OF_THE_CONNECTION.contains(name) || name.as_str().starts_with("proxy-")
}

/// Methods after which the connection or the answer has another meaning.
pub(crate) fn is_for_proxies(method: &Method) -> bool {
    [Method::CONNECT, Method::TRACE].contains(method)
}

/// Decides which URLs a run may send requests to.
pub trait Reach: Send + Sync {
    fn may_reach(&self, url: &Url) -> bool;
}

/// Sends the requests of one executor, on connections that no other executor uses.
pub(crate) struct Network {
    names: Waiters,
    /// Made when it is first needed, since it reads all certificates that the machine trusts.
    client: OnceLock<Client>,
}

impl Network {
    pub(crate) fn new(names: Waiters) -> Self {
        Self { names, client: OnceLock::new() }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.names.are_idle()
    }

    pub(crate) fn client(&self) -> reqwest::Result<Client> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = Client::builder()
            .user_agent(concat!("nightshift-plugin/", env!("CARGO_PKG_VERSION")))
            // A redirect is returned to the plugin. If it follows it, the new URL is checked, too.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .dns_resolver(Arc::new(PublicOnly(self.names.clone())))
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build()?;
        // If two runs made a client at the same time, the first one is kept.
        Ok(self.client.get_or_init(|| client).clone())
    }
}

/// The access of one run to the network.
pub(crate) struct Door {
    pub(crate) quarters: Arc<Quarters>,
    pub(crate) reach: Option<Arc<dyn Reach>>,
    pub(crate) budget: Arc<Budget>,
}

impl Door {
    pub(crate) fn may_reach(&self, url: &Url) -> bool {
        matches!(url.scheme(), "http" | "https")
            && self.reach.as_ref().is_some_and(|reach| reach.may_reach(url))
    }

    /// Implements `nightshift:plugin/http.fetch`. It ends at `until`, the deadline of the run, or
    /// at the request's own timeout, whichever comes first.
    pub(crate) async fn fetch(
        &self,
        request: wit::Request,
        until: Instant,
    ) -> Result<wit::Response, wit::Error> {
        let asked = request.timeout_ms.map(Duration::from_millis);
        let asked = asked.and_then(|timeout| Instant::now().checked_add(timeout));
        let until = asked.map_or(until, |asked| asked.min(until));
        let request = self.request(request)?;
        let client = self.quarters.network.client().map_err(|error| failed(&error))?;
        let held = self.budget.charge(0).ok_or(wit::Error::TooLarge(0))?;
        let answer = client.execute(request).map_err(|error| failed(&error));
        let answer = answer.and_then(|response| read(response, held));
        tokio::time::timeout_at(until, answer).await.unwrap_or(Err(wit::Error::Timeout))
    }

    fn request(&self, request: wit::Request) -> Result<Request, wit::Error> {
        let invalid =
            |what: &str, error: &dyn StdError| wit::Error::Invalid(format!("{what}: {error}"));
        let url = Url::parse(&request.url).map_err(|error| invalid("the URL", &error))?;
        if !self.may_reach(&url) {
            return Err(wit::Error::Denied(denied(&url)));
        }
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|error| invalid("the method", &error))?;
        if is_for_proxies(&method) {
            return Err(wit::Error::Invalid(format!("the method {method} is not for plugins")));
        }
        let mut built = Request::new(method, url);
        for (name, value) in request.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|error| invalid("a header's name", &error))?;
            if is_of_the_connection(&name) {
                let why = "it belongs to the connection, and the host writes it where it is due";
                return Err(wit::Error::Invalid(format!("the header {name}: {why}")));
            }
            let value = HeaderValue::from_str(&value)
                .map_err(|error| invalid("a header's value", &error))?;
            built
                .headers_mut()
                .try_append(name, value)
                .map_err(|error| invalid("the headers", &error))?;
        }
        *built.body_mut() = request.body.map(Into::into);
        Ok(built)
    }
}

fn denied(url: &Url) -> String {
    let place = url.host_str().unwrap_or_default();
    format!("{place} is not among the hosts that the executor's registration grants")
}

/// Reads the answer. Its body is charged to the run's memory before it is kept.
async fn read(response: Response, mut held: Charge) -> Result<wit::Response, wit::Error> {
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.try_next().await.map_err(|error| failed(&error))? {
        if body.len() + chunk.len() > FETCHED_BYTES_MAX {
            return Err(wit::Error::TooLarge(FETCHED_BYTES_MAX as u64));
        }
        if !held.grow(chunk.len()) {
            return Err(wit::Error::TooLarge(held.bytes() as u64));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(wit::Response { status, headers, body })
}

fn failed(error: &reqwest::Error) -> wit::Error {
    match cause(error) {
        Some(refused) => wit::Error::Denied(refused.to_string()),
        None => wit::Error::Failed(root(error)),
    }
}

pub(crate) fn root(error: &dyn StdError) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// Finds the refusal of an address among the causes of an error. An [`io::Error`] hides the error
/// inside of it from `source`, so that one is examined, too.
pub(crate) fn cause(error: &reqwest::Error) -> Option<&NotPublic> {
    let mut cause = error.source();
    while let Some(current) = cause {
        let inside = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = current.downcast_ref().or_else(|| inside?.downcast_ref());
        if found.is_some() {
            return found;
        }
        cause = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::runtime::Handle;

    use super::{Door, Reach, Url, wit};
    use crate::{limiter::Budget, quarters::House, waiters::Pool};

    struct Anywhere;

    impl Reach for Anywhere {
        fn may_reach(&self, _url: &Url) -> bool {
            true
        }
    }

    fn door() -> Door {
        let pool = || Pool::new(Handle::current(), "calls", 1);
        let quarters = House::new(pool(), pool()).of("a");
        Door { quarters, reach: Some(Arc::new(Anywhere)), budget: Budget::new(0) }
    }

    fn request(method: &str, url: &str, headers: Vec<(String, String)>) -> wit::Request {
        let (method, url) = (method.to_owned(), url.to_owned());
        wit::Request { method, url, headers, body: None, timeout_ms: None }
    }

    fn header(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused() {
        let door = door();
        let refused = |method: &str, url: &str, headers: Vec<(String, String)>| {
            let asked = door.request(request(method, url, headers));
            matches!(asked, Err(wit::Error::Invalid(_) | wit::Error::Denied(_)))
        };
        assert!(!refused("GET", "http://example.org/", header("accept", "*/*")));
        assert!(refused("G T", "http://example.org/", Vec::new()));
        assert!(refused("CONNECT", "http://example.org/", Vec::new()));
        assert!(refused("TRACE", "http://example.org/", Vec::new()));
        assert!(refused("GET", "example.org", Vec::new()));
        assert!(refused("GET", "file:///etc/passwd", Vec::new()));
        assert!(refused("GET", "http://example.org/", header("a b", "c")));
        assert!(refused("GET", "http://example.org/", header("a", "b\nc")));
        assert!(refused("GET", "http://example.org/", header("a", "b\r\nhost: c")));
        let many = (0..40_000).map(|n| (format!("x-{n}"), String::new())).collect();
        assert!(refused("GET", "http://example.org/", many));
    }

    #[tokio::test]
    async fn headers_of_the_connection_are_refused_by_name() {
        let door = door();
        for name in [
            "Connection",
            "Content-Length",
            "Expect",
            "Host",
            "HTTP2-Settings",
            "Keep-Alive",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Proxy-Whatever",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
        ] {
            let asked = door.request(request("POST", "http://example.org/", header(name, "1")));
            let Err(wit::Error::Invalid(why)) = asked else { panic!("{name} passed") };
            assert!(why.contains(&name.to_ascii_lowercase()), "{why}");
        }
    }
}
