//! Plays the part of the service that an executor reports to after a 202.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    App, HttpMessage, HttpRequest, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::StatusCode,
    web::{Bytes, Data, Path, PayloadConfig, post},
};
use anyhow::Context;
use nightshift_client::types::{
    ErrorCode, FinishRequest, Json, LeaseRenewal, MessageLease, Problem, RenewRequest, Timestamp,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    clock::{Clock, SystemClock, later},
    config::Config,
};

/// How long a lease lasts from each heartbeat on, as it does by default.
const LEASE: Duration = crate::domain::executor::LEASE_DEFAULT;
/// Reports that cross the answer which says that the lease is lost are not held against anybody.
const CROSSING: Duration = Duration::from_millis(500);

/// What an executor said, and when.
#[derive(Clone, Debug)]
struct Report {
    at: Instant,
    said: Said,
}

#[derive(Clone, Debug)]
pub(super) enum Said {
    Renew,
    Value(Json),
    Error,
    Cancelled,
    Release,
    /// What the service would refuse, and why.
    Nonsense(String),
}

/// How a lease ended.
#[derive(Clone, Copy, Debug)]
enum Over {
    /// By a report.
    Reported,
    /// By the service.
    Lost,
}

/// One attempt, and all that was said of it.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    deadline: Timestamp,
    cancel_requested: bool,
    over: Option<Over>,
    /// When the executor was first told that it is over.
    told_at: Option<Instant>,
    /// In time.
    reports: Vec<Report>,
    /// After the end.
    late: Vec<Report>,
}

impl Lease {
    /// What ended it, if a report did.
    pub(super) fn end(&self) -> Option<&Said> {
        let last = self.reports.last().filter(|_| matches!(self.over, Some(Over::Reported)))?;
        Some(&last.said)
    }

    pub(super) fn heartbeats(&self) -> usize {
        self.reports.iter().filter(|report| matches!(report.said, Said::Renew)).count()
    }

    pub(super) fn is_silent(&self) -> bool {
        self.reports.is_empty() && self.late.is_empty()
    }

    /// What must not have been said, in words.
    pub(super) fn fault(&self) -> Option<String> {
        if let Some(why) = self.reports.iter().chain(&self.late).find_map(nonsense) {
            return Some(format!("reports what the service refuses: {why}"));
        }
        self.late.iter().find_map(|report| self.lateness(report)).map(str::to_owned)
    }

    /// `None`: it may come after the end.
    fn lateness(&self, report: &Report) -> Option<&'static str> {
        let is_end = matches!(report.said, Said::Value(_) | Said::Error | Said::Cancelled);
        if let Some(Over::Reported) = self.over {
            // A heartbeat may be under way while the end is reported.
            return is_end.then_some("reports twice how the attempt ended");
        }
        if is_end && !matches!(report.said, Said::Cancelled) {
            return Some("finishes late, after its lease has ended");
        }
        let was_told = self.told_at.is_some_and(|told| report.at > told + CROSSING);
        was_told.then_some("goes on reporting after the answer 409 lease_lost")
    }
}

fn nonsense(report: &Report) -> Option<&str> {
    if let Said::Nonsense(why) = &report.said { Some(why) } else { None }
}

/// All attempts that were ever sent out, by the tokens of their leases.
type Book = watch::Sender<HashMap<String, Lease>>;

/// The listener and what it was told.
pub(super) struct StandIn {
    book: Arc<Book>,
    public_url: String,
    server: ServerHandle,
}

impl StandIn {
    pub(super) fn start(bind: SocketAddr, public_url: Option<String>) -> anyhow::Result<Self> {
        let book = Arc::new(Book::default());
        let shared = Data::from(Arc::clone(&book));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .app_data(PayloadConfig::new(Config::default().batch_bytes_max))
                .route("/leases/{token}/{what}", post().to(report))
        })
        .workers(1)
        .disable_signals()
        .bind(bind)
        .with_context(|| format!("cannot listen on {bind}"))?;
        let address = server.addrs().first().copied().context("the listener has no address")?;
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        let public_url = public_url.unwrap_or_else(|| format!("http://{address}"));
        let public_url = public_url.trim_end_matches('/').to_owned();
        Ok(Self { book, public_url, server: handle })
    }

    pub(super) async fn stop(&self) {
        self.server.stop(false).await;
    }

    /// A lease of its own for an attempt.
    pub(super) fn open(&self, token: String, deadline: Timestamp) -> MessageLease {
        let url = format!("{}/leases/{token}", self.public_url);
        let lease = Lease {
            deadline,
            cancel_requested: false,
            over: None,
            told_at: None,
            reports: Vec::new(),
            late: Vec::new(),
        };
        self.book.send_modify(|book| {
            book.insert(token.clone(), lease);
        });
        MessageLease { token, url }
    }

    /// From now on heartbeats are told to stop.
    pub(super) fn request_cancel(&self, token: &str) {
        self.change(token, |lease| lease.cancel_requested = true);
    }

    /// From now on reports are too late.
    pub(super) fn end(&self, token: &str) {
        self.change(token, |lease| {
            lease.over.get_or_insert(Over::Lost);
        });
    }

    pub(super) fn is_cancel_requested(&self, token: &str) -> bool {
        self.book.borrow().get(token).is_some_and(|lease| lease.cancel_requested)
    }

    fn change(&self, token: &str, change: impl FnOnce(&mut Lease)) {
        self.book.send_modify(|book| {
            if let Some(lease) = book.get_mut(token) {
                change(lease);
            }
        });
    }

    /// The lease as soon as it is as wanted, or else as it is when the time is over.
    pub(super) async fn wait(
        &self,
        token: &str,
        until: Instant,
        wanted: impl Fn(&Lease) -> bool,
    ) -> anyhow::Result<Lease> {
        let mut book = self.book.subscribe();
        let found = book.wait_for(|book| book.get(token).is_some_and(&wanted));
        let left = until.saturating_duration_since(Instant::now());
        // Whether it came or the time is over is seen in the lease.
        drop(timeout(left, found).await);
        self.book.borrow().get(token).cloned().context("a lease was forgotten")
    }
}

async fn report(
    request: HttpRequest,
    path: Path<(String, String)>,
    body: Bytes,
    book: Data<Book>,
) -> HttpResponse {
    let (token, what) = path.into_inner();
    let Some(said) = understand(&what, &request, &body) else {
        return problem(ErrorCode::UnknownRoute, "there are renew, finish and release");
    };
    let mut answer = problem(ErrorCode::LeaseLost, "no attempt has this lease");
    book.send_modify(|book| {
        if let Some(lease) = book.get_mut(&token) {
            answer = lease.take(said);
        }
    });
    answer
}

/// `None`: there is no such report.
fn understand(what: &str, request: &HttpRequest, body: &[u8]) -> Option<Said> {
    let is_empty = body.trim_ascii().is_empty();
    let is_json = request.content_type().eq_ignore_ascii_case("application/json");
    if what != "release" && !is_empty && !is_json {
        return Some(Said::Nonsense("its content type is not application/json".to_owned()));
    }
    match what {
        "renew" if is_empty => Some(Said::Renew),
        "renew" => Some(parse::<RenewRequest>(body).map_or_else(Said::Nonsense, |_| Said::Renew)),
        "finish" => Some(parse(body).map_or_else(Said::Nonsense, finish)),
        "release" if is_empty || matches!(body.trim_ascii(), b"null" | b"{}") => {
            Some(Said::Release)
        }
        "release" => Some(Said::Nonsense("a release takes no body".to_owned())),
        _ => None,
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn finish(request: FinishRequest) -> Said {
    match request {
        FinishRequest { return_value: Some(value), error: None, cancelled: false } => {
            Said::Value(value)
        }
        FinishRequest { return_value: None, error: Some(_), cancelled: false } => Said::Error,
        FinishRequest { return_value: None, error: None, cancelled: true } => Said::Cancelled,
        FinishRequest { return_value: None, error: None, cancelled: false } => {
            Said::Value(Json::null())
        }
        _ => {
            Said::Nonsense("a finish has only one of return_value, error and cancelled".to_owned())
        }
    }
}

impl Lease {
    /// Writes the report down and answers it as the service does.
    fn take(&mut self, said: Said) -> HttpResponse {
        let report = Report { at: Instant::now(), said };
        if self.over.is_some() {
            self.told_at.get_or_insert(report.at);
            self.late.push(report);
            return problem(ErrorCode::LeaseLost, "the lease ran out, or the attempt has ended");
        }
        let answer = match &report.said {
            Said::Nonsense(why) => problem(ErrorCode::InvalidField, why),
            Said::Renew => HttpResponse::Ok().json(self.renewal()),
            Said::Release => HttpResponse::NoContent().finish(),
            Said::Value(_) => HttpResponse::Ok().json(json!({"status": "SUCCESSFUL"})),
            Said::Error => HttpResponse::Ok().json(json!({"status": "FAILED"})),
            Said::Cancelled => HttpResponse::Ok().json(json!({"status": "CANCELLED"})),
        };
        if !matches!(report.said, Said::Renew | Said::Nonsense(_)) {
            self.over = Some(Over::Reported);
        }
        self.reports.push(report);
        answer
    }

    fn renewal(&self) -> LeaseRenewal {
        let until: Timestamp = later(SystemClock::default().now(), LEASE).into();
        LeaseRenewal {
            expires_at: until.min(self.deadline),
            cancel_requested: self.cancel_requested,
        }
    }
}

fn problem(code: ErrorCode, detail: &str) -> HttpResponse {
    let body = Problem::new(code, detail);
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::CONFLICT);
    HttpResponse::build(status).content_type("application/problem+json").json(body)
}
