//! HTTP for plugins: only to hosts that were granted, and by name only to public addresses.

use std::{
    error::Error as StdError,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{TryFutureExt, TryStreamExt};
use http::{HeaderName, HeaderValue, Method};
use http_body_util::{BodyDataStream, BodyExt, combinators::UnsyncBoxBody};
use reqwest::{
    Client, Request, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use thiserror::Error;
use tokio::time::Instant;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiHttpHooks};

use crate::bindings::nightshift::plugin::http as wit;

/// How long connecting may take, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's body that are kept until they are sent.
const BODY_CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of an answer that `fetch` reads.
const FETCHED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Says where a run may send requests.
pub trait Reach: Send + Sync {
    fn may_reach(&self, url: &Url) -> bool;
}

/// Sends requests; one pool of connections serves all plugins.
#[derive(Clone)]
pub(crate) struct Network(Client);

impl Network {
    pub(crate) fn new() -> reqwest::Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("nightshift-plugin/", env!("CARGO_PKG_VERSION")))
            // Where a redirect leads is for the plugin to follow, if it may.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .dns_resolver(Arc::new(PublicOnly))
            .build()?;
        Ok(Self(client))
    }
}

/// What one run has of the network.
pub(crate) struct Door {
    pub(crate) network: Network,
    pub(crate) reach: Option<Arc<dyn Reach>>,
}

impl Door {
    fn may_reach(&self, url: &Url) -> bool {
        matches!(url.scheme(), "http" | "https")
            && self.reach.as_ref().is_some_and(|reach| reach.may_reach(url))
    }

    /// `nightshift:plugin/http.fetch`.
    pub(crate) async fn fetch(
        &self,
        request: wit::Request,
        until: Instant,
    ) -> Result<wit::Response, wit::Error> {
        let asked = request.timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        let until = asked.map_or(until, |asked| asked.min(until));
        let request = self.request(request)?;
        let answer = self.network.0.execute(request).map_err(|error| failed(&error)).and_then(read);
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
        let mut built = Request::new(method, url);
        for (name, value) in request.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|error| invalid("a header's name", &error))?;
            if DEFAULT_FORBIDDEN_HEADERS.contains(&name) {
                return Err(wit::Error::Invalid(format!("the header {name} is the host's")));
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

async fn read(response: Response) -> Result<wit::Response, wit::Error> {
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

fn root(error: &dyn StdError) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// The refusal among the causes, also inside of an [`io::Error`], which hides its own.
fn cause(error: &reqwest::Error) -> Option<&NotPublic> {
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

type Body = UnsyncBoxBody<bytes::Bytes, Error>;
type Sent = (http::Response<Body>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// `wasi:http/outgoing-handler`.
impl WasiHttpHooks for Door {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: http::Request<Body>,
        options: Option<RequestOptions>,
        _fut: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let client = self.network.0.clone();
        let url = Url::parse(&request.uri().to_string()).ok();
        let granted = url.is_some_and(|url| self.may_reach(&url));
        Box::new(async move {
            if !granted {
                return Err(Error::HttpRequestDenied);
            }
            let request = request.map(|body| reqwest::Body::wrap_stream(BodyDataStream::new(body)));
            let request = Request::try_from(request).map_err(|error| wasi_error(&error))?;
            let sending = client.execute(request);
            let limit = options.and_then(|options| options.first_byte_timeout);
            let response = match limit {
                None => sending.await,
                Some(limit) => tokio::time::timeout(limit, sending)
                    .await
                    .map_err(|_elapsed| Error::ConnectionReadTimeout)?,
            };
            let response = http::Response::from(response.map_err(|error| wasi_error(&error))?);
            let response =
                response.map(|body| body.map_err(|error| wasi_error(&error)).boxed_unsync());
            let nothing_more: Box<dyn Future<Output = _> + Send> = Box::new(async { Ok(()) });
            Ok((response, nothing_more))
        })
    }
}

fn wasi_error(error: &reqwest::Error) -> Error {
    if cause(error).is_some() {
        return Error::DestinationIpProhibited;
    }
    if error.is_timeout() {
        return Error::ConnectionTimeout;
    }
    if error.is_connect() {
        return Error::ConnectionRefused;
    }
    Error::InternalError(Some(root(error)))
}

/// A name that leads into a private network: its owner may point it wherever he likes. An address
/// that was granted as such is not looked up.
#[derive(Clone, Copy, Debug, Error)]
#[error("the host's name leads to {0}, which is no public address: grant the address itself")]
struct NotPublic(IpAddr);

struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(private) = found.iter().find(|address| !is_public(address.ip())) {
                return Err(NotPublic(private.ip()).into());
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether anybody on the internet could reach it, by IANA's registries of special addresses
/// (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        // Azure's host.
        IpAddr::V4(v4) if v4.octets() == [168, 63, 129, 16] => false,
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let protocol = a == 192 && b == 0 && c == 0;
            let benchmark = a == 198 && (18..20).contains(&b);
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_documentation()
                || a == 0
                || a >= 240
                || shared
                || protocol
                || benchmark)
        }
        IpAddr::V6(v6) => match v6.segments() {
            // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address that they hold.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                is_public(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low).to_canonical())
            }
            // Teredo and other protocols of 2001::/23, and documentation.
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
            // Global unicast.
            [first, ..] => (0x2000..0x4000).contains(&first),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Door, Network, Reach, Url, is_public, wit};

    struct Anywhere;

    impl Reach for Anywhere {
        fn may_reach(&self, _url: &Url) -> bool {
            true
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let reach: Option<std::sync::Arc<dyn Reach>> = Some(std::sync::Arc::new(Anywhere));
        let door = Door { network: Network::new().unwrap(), reach };
        let refused = |method: &str, url: &str, headers: Vec<(String, String)>| {
            let (method, url) = (method.to_owned(), url.to_owned());
            let request = wit::Request { method, url, headers, body: None, timeout_ms: None };
            matches!(door.request(request), Err(wit::Error::Invalid(_) | wit::Error::Denied(_)))
        };
        let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert!(!refused("GET", "http://example.org/", header("accept", "*/*")));
        assert!(refused("G T", "http://example.org/", Vec::new()));
        assert!(refused("GET", "example.org", Vec::new()));
        assert!(refused("GET", "file:///etc/passwd", Vec::new()));
        assert!(refused("GET", "http://example.org/", header("host", "other.org")));
        assert!(refused("GET", "http://example.org/", header("a b", "c")));
        assert!(refused("GET", "http://example.org/", header("a", "b\nc")));
        let many = (0..40_000).map(|n| (format!("x-{n}"), String::new())).collect();
        assert!(refused("GET", "http://example.org/", many));
    }

    #[test]
    fn private_and_special_addresses_are_told_from_public_ones() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "168.63.129.16",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
