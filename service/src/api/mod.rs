//! The HTTP API: parses requests, calls the store, and renders answers.
//!
//! A request passes `request::around` (host and origin, answer headers, log and metrics), then
//! `admit` (token and inputs), and then its handler. Each handler describes its operation for the
//! OpenAPI document, which `routes` builds from the same list as the routes themselves. `convert`
//! translates between the types of the wire and the domain.

mod admit;
mod answer;
mod audit;
mod batch;
mod browser;
mod convert;
mod cursor;
mod docs;
mod document;
mod error;
mod event_stream;
mod events;
mod executors;
mod extract;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod health;
mod home;
mod inputs;
mod leases;
mod list;
mod logs;
mod metrics;
mod openapi;
mod openapi_3_0;
mod params;
mod peer;
mod plugins;
mod prune;
mod queues;
mod request;
mod responses;
mod routes;
mod stats;
mod steer;
mod tasks;
mod tokens;
mod turn;
mod webhooks;
mod words;

use std::{sync::Arc, time::Duration};

use actix_web::web;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use self::{
    admit::admit,
    browser::{Doors, cors},
    error::Error,
    home::Home,
    metrics::Scrape,
    openapi::DocumentTexts,
    openapi_3_0::convert as document_3_0,
    peer::remember,
    request::around,
    routes::{configure, document},
};
use crate::{
    access::{self, Access, Caller, Refused},
    capacity::Capacity,
    clock::Clock,
    domain::{retention::Retention, task::TaskId},
    entropy::Entropy,
    memory::Memory,
    metrics::Metrics,
    network::Network,
    plugin::Plugins,
    store::Store,
    traces::Traces,
    vault::Vault,
    vital::Vital,
};

/// The parts of the service that handlers use.
#[derive(Clone)]
pub struct State {
    pub store: Store,
    pub access: Arc<Access>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<Entropy>,
    pub limits: Limits,
    pub doors: Arc<Doors>,
    pub home: Arc<Home>,
    pub document_texts: Arc<DocumentTexts>,
    pub network: Arc<Network>,
    pub vault: Arc<Vault>,
    pub plugins: Arc<Plugins>,
    pub retention: Retention,
    /// Memory for bodies and answers.
    pub memory: Arc<Memory>,
    /// Room for the attempts that this process runs.
    pub capacity: Capacity,
    /// Permits to parse large bodies or write large answers.
    pub turns: Arc<Semaphore>,
    /// Permits for readers of events.
    pub event_streams: Arc<Semaphore>,
    pub metrics: Arc<Metrics>,
    pub traces: Traces,
    pub scrape: Arc<Scrape>,
    pub vital: Vital,
    /// Cancelled when the service stops: waiting requests are answered at once, and `/readyz`
    /// fails.
    pub stopping: CancellationToken,
}

/// Limits on what is read from a client.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub body_bytes_max: usize,
    pub batch_bytes_max: usize,
    pub return_value_bytes_max: usize,
    pub plugin_bytes_max: usize,
    pub body_read_timeout: Duration,
}

/// Bytes that a report may have in addition to its return value.
const REPORT_EXTRA_BYTES: usize = 256 * 1024;

impl Limits {
    /// The most bytes of an executor's report.
    pub fn report_bytes_max(&self) -> usize {
        self.body_bytes_max.max(self.return_value_bytes_max + REPORT_EXTRA_BYTES)
    }
}

/// How many large bodies and answers are parsed and written at once. Others wait.
pub const TURNS_MAX: usize = 2;

/// How many readers of events there may be at once.
pub const EVENT_STREAMS_MAX: usize = 4_096;

type Shared = web::Data<State>;

impl State {
    /// Returns when the caller's token is no longer valid. For requests that wait.
    async fn shut_out(&self, caller: &Caller) {
        while self.access.still_admits(caller, self.clock.now()) {
            self.clock.sleep(access::LOOK).await;
        }
    }

    /// Returns once the task has ended, `limit` has passed, or the service stops. An error if the
    /// caller's token becomes invalid meanwhile.
    async fn wait_for_end(
        &self,
        caller: &Caller,
        id: TaskId,
        limit: Duration,
    ) -> Result<(), Error> {
        tokio::select! {
            ended = self.store.wait_for_end(id, limit) => Ok(ended?),
            () = self.stopping.cancelled() => Ok(()),
            () = self.shut_out(caller) => Err(admit::refused(Refused::WrongToken)),
        }
    }
}
