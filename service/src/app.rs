//! Builds the service from its parts, and stops them in order: one store, one HTTP server, one
//! dispatcher, one reaper, one pruner, and the loops that follow events, tokens and certificates.

use std::{path::PathBuf, sync::Arc, time::Duration};

use actix_web::{
    App as ActixApp, HttpServer,
    dev::{Server, ServerHandle},
    middleware,
    web::{Bytes, Data},
};
use anyhow::{Context, bail};
use async_trait::async_trait;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinHandle},
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{self, Access},
    api::{self, EVENT_STREAMS_MAX, Scrape, State, TURNS_MAX},
    capacity::{Capacity, PluginPlaces},
    clock::{Clock, SystemClock},
    config::{Bind, Config, DatabaseUrl},
    dispatch::{Dispatcher, Drain, Keep, Seen, prune, reap},
    domain::plugin::Digest,
    entropy::Entropy,
    executor::{Executors, HttpExecutor, HttpSettings, WasmExecutor},
    memory::Memory,
    metrics::Metrics,
    network::Network,
    plugin::{self, Components, Plugins},
    socket,
    store::{Closing, Store, Surroundings, TokenTable},
    tls::Certificates,
    traces::Traces,
    vault::Vault,
    vital::Vital,
};

/// How long a client may take to send the headers of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long requests may go on after all other parts have stopped.
const HTTP_GRACE_SECONDS: u64 = 5;
/// Connections that the kernel holds until the server accepts them.
const BACKLOG: u32 = 2_048;

/// Makes the HTTP executor, given the URL at which executors reach this service. That URL may hold
/// a port which is known only once the server listens.
pub type MakeExecutor = Box<dyn FnOnce(&str) -> anyhow::Result<HttpExecutor>>;

/// Everything that comes from outside the program. Tests pass their own.
pub struct Outside {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<Entropy>,
    pub executor: MakeExecutor,
    pub network: Arc<Network>,
    pub vault: Arc<Vault>,
    pub plugins: plugin::Settings,
}

impl Outside {
    /// The machine's clock and random numbers, and a network that makes real calls.
    pub fn real(config: &Config) -> anyhow::Result<Self> {
        let network = Arc::new(Network::new(config.executor_reach()?));
        let vault = Arc::new(config.vault()?);
        Ok(Self {
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(Entropy::from_system()),
            executor: make_executor(config, &network, &vault)?,
            network,
            vault,
            plugins: config.plugins()?,
        })
    }
}

/// The [`MakeExecutor`] of the service, which makes real calls.
pub fn make_executor(
    config: &Config,
    network: &Arc<Network>,
    vault: &Arc<Vault>,
) -> anyhow::Result<MakeExecutor> {
    let mut settings = HttpSettings {
        public_url: String::new(),
        response_bytes_max: config.return_value_bytes_max,
        network: Arc::clone(network),
        authorities: config.executor_authorities()?,
        vault: Arc::clone(vault),
    };
    Ok(Box::new(move |public_url| {
        public_url.clone_into(&mut settings.public_url);
        Ok(HttpExecutor::new(settings)?)
    }))
}

/// A part of the service that works in a task of its own until the service stops.
struct Part {
    name: &'static str,
    task: JoinHandle<()>,
}

impl Part {
    fn start(
        vital: &Vital,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { name, task: vital.task(name, work) }
    }
}

/// A running service.
pub struct App {
    address: Bind,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    /// In the order in which `stop` waits for them.
    working: Vec<Part>,
    warming: JoinHandle<()>,
    vital: Vital,
    stopping: CancellationToken,
    drain: Drain,
    drain_time: Duration,
    traces: Traces,
    store: Store,
    closing: Closing,
}

impl App {
    /// Opens the store, binds the address and starts all parts.
    #[expect(clippy::too_many_lines, reason = "the parts of the service, one after another")]
    pub fn start(config: &Config, outside: Outside) -> anyhow::Result<Self> {
        let Outside { clock, entropy, executor, network, vault, plugins } = outside;
        let certificates = config.tls()?.map(Certificates::load).transpose()?.map(Arc::new);
        let metrics = Arc::new(Metrics::new());
        metrics.begin(clock.now());
        let traces = Traces::new(config.otlp_endpoint.as_deref())?;
        let (vital, stopping) = Vital::new();
        let surroundings = Surroundings {
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            memory: Arc::new(Memory::new(config.payload_memory_mib)),
            metrics: Arc::clone(&metrics),
            vital: vital.clone(),
        };
        let memory = Arc::clone(&surroundings.memory);
        let opened = Store::open(&config.database()?, config.deliveries_max, surroundings, &vault)?;
        let access = Arc::new(admission(config, opened.tokens)?);
        let plugins = Arc::new(Plugins::new(plugins));
        let places = PluginPlaces::new(config.plugin_runs_max, config.plugin_memory_mib);
        let capacity = Capacity::new(config.attempts_max, places, Arc::clone(&memory));
        let state = State {
            store: opened.store.clone(),
            access: Arc::clone(&access),
            clock: Arc::clone(&clock),
            entropy,
            limits: config.limits(),
            doors: Arc::new(config.doors()?),
            home: Arc::new(config.home()?),
            document_texts: Arc::default(),
            network,
            vault,
            plugins: Arc::clone(&plugins),
            retention: config.retention(),
            memory,
            capacity: capacity.clone(),
            turns: Arc::new(Semaphore::new(TURNS_MAX)),
            event_streams: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
            metrics: Arc::clone(&metrics),
            traces: traces.clone(),
            scrape: Arc::new(Scrape::new(disks(config)?)),
            vital: vital.clone(),
            stopping: stopping.clone(),
        };
        let (server, address) = serve(config, state, certificates.as_ref())?;
        let wasm = Arc::new(wasm_executor(config, plugins, &opened.store));
        let http = executor(&config.public_url(&address))?;
        let (store, until) = (|| opened.store.clone(), || stopping.clone());
        let warming = tokio::spawn(warm_up(store(), Arc::clone(&wasm), until()));
        let drain = Drain::new(config.shutdown_grace());
        let dispatcher = Arc::new(Dispatcher::new(
            store(),
            Executors { http, wasm },
            Arc::clone(&clock),
            Seen { metrics: Arc::clone(&metrics), traces: traces.clone() },
            capacity,
        ));
        let pruning = prune(store(), Arc::clone(&clock), keep(config), until());
        let following =
            certificates.map(|files| files.follow(metrics, Arc::clone(&clock), until()));
        let mut working = vec![
            Part::start(&vital, "dispatcher", dispatcher.run(opened.cancels, drain.clone())),
            Part::start(&vital, "reaper", reap(store(), Arc::clone(&clock), until())),
            Part::start(&vital, "pruner", pruning),
            Part::start(&vital, "event follower", store().follow_events(until())),
            Part::start(&vital, "keeper of asks", store().keep_asks(until())),
            Part::start(&vital, "token keeper", access::keep(access, store(), clock, until())),
        ];
        working.extend(following.map(|it| Part::start(&vital, "certificate follower", it)));
        Ok(Self {
            address,
            server: server.handle(),
            serving: vital.task("HTTP server", server),
            working,
            warming,
            vital,
            stopping,
            drain,
            drain_time: config.drain_time(),
            traces,
            store: opened.store,
            closing: opened.closing,
        })
    }

    /// The address on which it listens, with the real port if port 0 was configured.
    pub fn address(&self) -> &Bind {
        &self.address
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Watches the parts that have to run as long as this service does.
    pub fn vital(&self) -> &Vital {
        &self.vital
    }

    /// A handle to abort each task, so that tests can see how the service reacts to its end.
    pub fn tasks(&self) -> Vec<(&'static str, AbortHandle)> {
        let working = self.working.iter().map(|part| (part.name, part.task.abort_handle()));
        working.chain([("HTTP server", self.serving.abort_handle())]).collect()
    }

    /// A token to cancel if the service is to stop without waiting for running attempts.
    pub fn hurry(&self) -> CancellationToken {
        self.drain.hurry.clone()
    }

    /// Stops the service: it claims no more tasks, waits for running attempts, hands back the rest,
    /// answers the requests that it has received, and returns after the last commit.
    ///
    /// Executors can report until the end. Other requests are accepted for the drain time at least,
    /// because a load balancer goes on sending them until it has noticed that `/readyz` fails, also
    /// on connections that it keeps; each of these is closed after its next answer.
    pub async fn stop(self) -> anyhow::Result<()> {
        // First tell `vital`: from here on its parts may end without ending the process.
        self.stopping.cancel();
        self.drain.stop_claiming.cancel();
        let hurry = self.drain.hurry;
        let drained = tokio::time::timeout(self.drain_time, hurry.cancelled_owned());
        let drained = tokio::spawn(drained);
        // The HTTP server is stopped after the dispatcher, so that executors can report while their
        // attempts are awaited.
        for Part { name, task } in self.working {
            task.await.with_context(|| format!("the {name} did not end by itself"))?;
        }
        self.warming.await.context("getting plugins ready panicked")?;
        // The drain time is over, or was cut short by `hurry`.
        let _drained = drained.await.context("the drain panicked")?;
        self.server.stop(true).await;
        self.serving.await.context("the server panicked")?.context("the server failed")?;
        if let Bind::Socket(path) = &self.address {
            // If the socket cannot be removed, the next start removes it.
            std::fs::remove_file(path).ok();
        }
        // The writer ends once the last `Store` is gone, and `wait` returns after its last commit.
        drop(self.store);
        let closing = self.closing;
        tokio::task::spawn_blocking(move || closing.wait()).await.context("closing panicked")??;
        self.traces.stop().await;
        Ok(())
    }
}

/// Reads the tokens, and refuses to start without any unless only programs on this machine can
/// reach the service. Otherwise anybody on the network could run tasks.
fn admission(config: &Config, tokens: TokenTable) -> anyhow::Result<Access> {
    let access = Access::new(config.admin_token()?.as_deref(), tokens);
    if !config.bind.is_local() && !access.is_on() {
        bail!(
            "bind is {}, but there is no token: anybody who reaches the port could run tasks. Set \
             admin_token_file, or bind 127.0.0.1 and make one with \
             `nightshift token create NAME --scope admin`.",
            config.bind
        );
    }
    Ok(access)
}

fn wasm_executor(config: &Config, plugins: Arc<Plugins>, store: &Store) -> WasmExecutor {
    WasmExecutor {
        plugins,
        components: Arc::new(Stored(store.clone())),
        directories: config.plugin_directories.clone(),
        return_value_bytes_max: config.return_value_bytes_max,
    }
}

/// The files and folders of the service whose disks may fill up.
fn disks(config: &Config) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let database = match config.database()?.url {
        DatabaseUrl::Sqlite(path) => Some(("database", path)),
        DatabaseUrl::Postgres(_) => None,
    };
    let cache = plugin::cache_folder(config.plugin_cache.as_deref());
    Ok(database.into_iter().chain(cache.map(|folder| ("plugin_cache", folder))).collect())
}

fn keep(config: &Config) -> Keep {
    Keep {
        tasks: config.retention(),
        events: config.event_retention(),
        audit: config.audit_retention(),
    }
}

/// Reads components from the store.
struct Stored(Store);

#[async_trait]
impl Components for Stored {
    async fn component(&self, digest: Digest) -> anyhow::Result<Option<Bytes>> {
        Ok(self.0.component(digest).await?.map(Bytes::from))
    }
}

/// Compiles the plugins that executors run, so that their first tasks do not have to wait.
async fn warm_up(store: Store, wasm: Arc<WasmExecutor>, stopping: CancellationToken) {
    let plugins = match store.plugins().await {
        Ok(plugins) => plugins,
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "plugins cannot be read");
            return;
        }
    };
    for plugin in plugins {
        let Some(version) = plugin.active_version() else { continue };
        tokio::select! {
            () = stopping.cancelled() => return,
            () = wasm.warm_up(&plugin.name, version.digest) => {}
        }
    }
}

fn serve(
    config: &Config,
    state: State,
    certificates: Option<&Arc<Certificates>>,
) -> anyhow::Result<(Server, Bind)> {
    let state = Data::new(state);
    let origins = config.cors_origins.clone();
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(state.clone())
            .wrap(middleware::from_fn(api::admit))
            // The middleware that is added last runs first.
            .wrap(api::cors(&origins))
            .wrap(middleware::from_fn(api::around))
            .configure(api::configure)
    })
    .on_connect(api::remember)
    .workers(config.http_workers)
    .max_connections(config.connections_max.div_ceil(config.http_workers))
    .backlog(BACKLOG)
    .tls_handshake_timeout(HEAD_TIMEOUT)
    .client_request_timeout(HEAD_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    .shutdown_timeout(HTTP_GRACE_SECONDS)
    .disable_signals();
    let server = match (&config.bind, certificates) {
        (Bind::Address(address), Some(certificates)) => {
            server.bind_rustls_0_23(address, certificates.server_config()?)
        }
        (Bind::Address(address), None) => server.bind(address),
        (Bind::Socket(path), _) => server.listen_uds(socket::listen(path)?),
    }
    .with_context(|| format!("cannot listen on {}", config.bind))?;
    let listens = match &config.bind {
        // If port 0 was configured, only the server knows the real port.
        Bind::Address(_) => {
            Bind::Address(server.addrs().first().copied().context("the server has no address")?)
        }
        socket @ Bind::Socket(_) => socket.clone(),
    };
    Ok((server.run(), listens))
}
