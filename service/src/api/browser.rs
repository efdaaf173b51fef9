//! Protects the service from web pages, by checking the host name and the origin of requests.
//!
//! A browser on this machine may open a page that sends requests to this service, with the network
//! access of its user. If the page's host name is made to resolve to this machine (DNS rebinding),
//! the page may even read the answers. Such a request carries the page's host name in `Host`, or
//! its origin in `Origin`.

use std::net::IpAddr;

use actix_cors::Cors;
use actix_web::{
    dev::ServiceRequest,
    http::{
        Method, Version,
        header::{self, HeaderValue},
        uri::Authority,
    },
    middleware::Condition,
};
use nightshift_openapi::ErrorCode;
use url::Url;

use super::Error;
use crate::domain::reach::is_below;

/// How long a browser may remember the answer to a preflight request.
const PREFLIGHT_SECONDS: usize = 3_600;

/// The host names under which the service may be called, and the origins whose pages may change
/// something.
#[derive(Clone, Debug)]
pub struct Doors {
    on_loopback: bool,
    /// In lower case. `.example.org` stands for all names below it.
    names: Vec<String>,
    /// Whether other host names are refused.
    guarded: bool,
    origins: Vec<String>,
}

impl Doors {
    /// `public` is the service's own URL. On loopback the host name is always checked, since no
    /// other name rightly resolves to it.
    pub fn new(on_loopback: bool, public: Option<&Url>, allowed: &[String]) -> Self {
        let public_host = public.and_then(Url::host_str).map(str::to_owned);
        let names = allowed.iter().map(|name| name.to_ascii_lowercase());
        let names = names.map(|name| match name.strip_prefix('*') {
            Some(below) => below.to_owned(),
            None => name,
        });
        Self {
            on_loopback,
            names: names.chain(public_host).collect(),
            guarded: on_loopback || !allowed.is_empty(),
            origins: public.map(|url| url.origin().ascii_serialization()).into_iter().collect(),
        }
    }

    /// Adds origins whose pages may use the API.
    #[must_use]
    pub fn with_origins(mut self, origins: &[String]) -> Self {
        self.origins.extend_from_slice(origins);
        self
    }

    /// Refuses a request with an unknown host name, or from a page of an unknown origin.
    pub(super) fn check(&self, request: &ServiceRequest) -> Result<(), Error> {
        let called = called(request)?;
        if self.guarded && !self.is_probe(request) {
            let strange = called.iter().find(|name| !self.knows(name.host()));
            if let Some(name) = strange {
                let detail = format!("{} is no name of this service", name.host());
                return Err(Error::new(ErrorCode::UnknownHost, detail));
            }
        }
        self.check_origin(request, &called)
    }

    /// Whether the request checks health or reads metrics. Kubernetes and Prometheus send these to
    /// the pod's address, which is not known beforehand. Metrics require a token on such addresses,
    /// which a hostile page does not have.
    fn is_probe(&self, request: &ServiceRequest) -> bool {
        !self.on_loopback && matches!(request.path(), "/healthz" | "/readyz" | "/metrics")
    }

    fn knows(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost"
            || address.is_ok_and(|address| address.is_loopback())
            || self.names.iter().any(|name| match name.strip_prefix('.') {
                Some(parent) => is_below(&host, parent),
                None => *name == host,
            })
    }

    /// Checks the origin of requests that change something. Any page can send a POST by a form or a
    /// script without a preflight request, and some operations need no body. Reading needs no
    /// check, since without CORS headers no page can read the answer.
    fn check_origin(&self, request: &ServiceRequest, called: &[Authority]) -> Result<(), Error> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let Some(origin) = request.headers().get(header::ORIGIN).filter(|_| !reads) else {
            return Ok(());
        };
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let own = |name: &Authority| origin.split_once("://").is_some_and(|(_, at)| *name == at);
        let known = self.origins.iter().any(|known| known == "*" || *known == origin);
        if known || called.iter().any(own) {
            return Ok(());
        }
        Err(Error::new(ErrorCode::OriginRefused, format!("{origin} is not in cors_origins")))
    }
}

/// The host names in the request: the one in its target, if there is one, and the one in `Host`,
/// which HTTP/1.1 requires beside it. Only an HTTP/1.0 request may have neither, and browsers do
/// not use HTTP/1.0.
fn called(request: &ServiceRequest) -> Result<Vec<Authority>, Error> {
    let malformed = || Error::new(ErrorCode::InvalidHeader, "Host is not a name of a host");
    let of_header = |value: &HeaderValue| {
        let authority = Authority::try_from(value.as_bytes()).ok();
        authority.filter(|name| !name.as_str().contains('@')).ok_or_else(malformed)
    };
    let headers = request.headers().get_all(header::HOST).map(of_header);
    let mut called: Vec<Authority> = headers.collect::<Result<_, _>>()?;
    if called.is_empty() && request.version() == Version::HTTP_11 {
        return Err(Error::new(ErrorCode::InvalidHeader, "Host is missing"));
    }
    if let Some(target) = request.uri().authority() {
        if target.as_str().contains('@') {
            let detail = "the target of the request is not a name of a host";
            return Err(Error::new(ErrorCode::InvalidHeader, detail));
        }
        called.push(target.clone());
    }
    if called.is_empty() && request.version() > Version::HTTP_11 {
        return Err(Error::new(ErrorCode::InvalidHeader, "the name of the host is missing"));
    }
    Ok(called)
}

/// Lets pages of these origins use the API. Without any, no CORS headers are sent.
pub fn cors(origins: &[String]) -> Condition<Cors> {
    let cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers([
            "authorization",
            "content-type",
            "idempotency-key",
            "last-event-id",
            "prefer",
            "traceparent",
        ])
        .expose_headers(["allow", "location", "preference-applied", "retry-after"])
        .max_age(PREFLIGHT_SECONDS);
    let cors = if origins.iter().any(|origin| origin == "*") {
        cors.allow_any_origin().send_wildcard()
    } else {
        origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
    };
    Condition::new(!origins.is_empty(), cors)
}
