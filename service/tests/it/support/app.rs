use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nightshift::{
    app::{App, Outside, make_executor},
    clock::{Clock, ManualClock, SystemClock},
    config::Config,
    entropy::Entropy,
    network::Network,
    store::Store,
};
use nightshift_client::{
    Client, EnqueueOptions, Retry,
    types::{
        Executor, ExecutorKind, ExecutorRequest, FinishRequest, Json, Lease, LeaseRequest, Task,
        TaskRequest,
    },
};
use serde_json::Value;
use uuid::Uuid;

use super::{SOON, database::Database, executor::TestExecutor, until};

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Processes never have the same random numbers.
static SEEDS: AtomicU64 = AtomicU64::new(20_261_125);

/// Settings of a service that is to be started.
pub struct Builder {
    /// Kept until the end, when it is deleted; a replica has its first one's.
    _database: Option<Database>,
    clock: Arc<dyn Clock>,
    pub config: Config,
    resolver: Option<Arc<dyn reqwest::dns::Resolve>>,
    /// Each process has random numbers of its own.
    seed: u64,
}

impl Builder {
    pub fn sqlite() -> Self {
        Self::on(Database::sqlite())
    }

    pub fn postgres() -> Self {
        Self::on(Database::postgres())
    }

    pub fn on(database: Database) -> Self {
        let config = Config {
            bind: "127.0.0.1:0".parse().unwrap(),
            database_url: database.url(),
            shutdown_grace_seconds: 5,
            plugin_cache: Some(concat!(env!("CARGO_TARGET_TMPDIR"), "/plugins").into()),
            ..Config::default()
        };
        Self {
            _database: Some(database),
            clock: Arc::new(SystemClock::default()),
            config,
            resolver: None,
            seed: SEEDS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Time stands still until the test moves it.
    pub fn with_manual_clock(mut self) -> (Self, ManualClock) {
        let clock = ManualClock::new("2026-11-25T12:00:00Z".parse().unwrap());
        self.clock = Arc::new(clock.clone());
        (self, clock)
    }

    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    pub fn with_resolver(mut self, resolver: impl reqwest::dns::Resolve + 'static) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    pub fn start(self) -> TestApp {
        let app = App::start(&self.config, self.outside()).unwrap();
        let scheme = if self.config.tls_certificate.is_some() { "https" } else { "http" };
        let server = format!("{scheme}://{}", app.address());
        TestApp {
            client: Client::new(&server).unwrap().with_retry(Retry::never()),
            server,
            app,
            builder: self,
        }
    }

    /// Why it does not start.
    pub fn start_error(&self) -> String {
        let started = App::start(&self.config, self.outside());
        format!("{:#}", started.err().expect("it must not start"))
    }

    fn outside(&self) -> Outside {
        let reach = self.config.executor_reach().unwrap();
        let network = Arc::new(match &self.resolver {
            Some(resolver) => Network::with_resolver(reach, Arc::clone(resolver)),
            None => Network::new(reach),
        });
        let vault = Arc::new(self.config.vault().unwrap());
        Outside {
            clock: Arc::clone(&self.clock),
            entropy: Arc::new(Entropy::from_seed(self.seed)),
            executor: make_executor(&self.config, &network, &vault).unwrap(),
            network,
            vault,
            plugins: nightshift::plugin::Settings {
                compiler: env!("CARGO_BIN_EXE_nightshift").into(),
                ..self.config.plugins().unwrap()
            },
        }
    }
}

/// A service that runs in this process.
pub struct TestApp {
    pub client: Client,
    pub server: String,
    app: App,
    builder: Builder,
}

impl TestApp {
    /// Stops it in good order and hands back what is needed to start it again.
    pub async fn stop(self) -> Builder {
        self.app.stop().await.unwrap();
        self.builder
    }

    /// Why it does not stop in good order.
    pub async fn stop_error(self) -> String {
        format!("{:#}", self.app.stop().await.expect_err("it must not stop in good order"))
    }

    pub fn service(&self) -> &App {
        &self.app
    }

    pub fn store(&self) -> &Store {
        self.app.store()
    }

    pub fn database_url(&self) -> String {
        self.builder.config.database_url.clone()
    }

    /// Another process's part on the same database.
    pub fn replica(&self, change: impl FnOnce(&mut Builder)) -> Self {
        let mut builder = Builder {
            _database: None,
            clock: Arc::clone(&self.builder.clock),
            config: self.builder.config.clone(),
            resolver: None,
            seed: SEEDS.fetch_add(1, Ordering::Relaxed),
        };
        change(&mut builder);
        builder.start()
    }

    /// The same with a clock of its own.
    pub fn replica_with(&self, clock: impl Clock + 'static) -> Self {
        self.replica(|builder| builder.clock = Arc::new(clock))
    }

    pub async fn register(&self, executor: &TestExecutor) -> Executor {
        self.register_as("exec", executor, |_| {}).await
    }

    pub async fn register_as(
        &self,
        name: &str,
        executor: &TestExecutor,
        change: impl FnOnce(&mut ExecutorRequest),
    ) -> Executor {
        let mut request = ExecutorRequest {
            task_paths: vec!["*".to_owned()],
            url: Some(executor.url()),
            secret: Some(SECRET.to_owned()),
            ..ExecutorRequest::default()
        };
        change(&mut request);
        self.client.put_executor(name, &request).await.unwrap()
    }

    /// Registers an executor of kind worker and returns one of its workers.
    pub async fn register_workers(
        &self,
        name: &str,
        change: impl FnOnce(&mut ExecutorRequest),
    ) -> Worker {
        let mut request = ExecutorRequest {
            kind: ExecutorKind::Worker,
            task_paths: vec!["*".to_owned()],
            ..ExecutorRequest::default()
        };
        change(&mut request);
        self.client.put_executor(name, &request).await.unwrap();
        Worker { client: self.client.clone(), executor: name.to_owned(), id: "w1".to_owned() }
    }

    pub async fn enqueue(&self, task_path: &str) -> Task {
        self.enqueue_with(TaskRequest::new(task_path)).await
    }

    pub async fn enqueue_with(&self, request: TaskRequest) -> Task {
        self.client.create_task(&request, &EnqueueOptions::default()).await.unwrap().task
    }

    /// The record once the task has ended.
    pub async fn end(&self, id: Uuid) -> Task {
        let task = self.client.get_task(id, Some(SOON)).await.unwrap();
        assert!(task.status.is_finished(), "{id} has not ended within {SOON:?}: {task:?}");
        task
    }

    pub async fn task(&self, id: Uuid) -> Task {
        self.client.get_task(id, None).await.unwrap()
    }

    /// The record once `wanted` holds.
    pub async fn task_when(&self, id: Uuid, wanted: impl Fn(&Task) -> bool) -> Task {
        until("the awaited state of a task", || async { Some(self.task(id).await).filter(&wanted) })
            .await
    }

    /// A request made by hand: the status and the body.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(self.request("POST", path).body(body).header("content-type", "application/json"))
            .await
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        reqwest::Client::new().request(method, format!("{}{path}", self.server))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.timeout(SOON + Duration::from_secs(30)).send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    /// Runs a task of its own; what could have been claimed before it, has been.
    pub async fn run_barrier(&self) {
        let id = self.enqueue("barrier").await.id;
        self.end(id).await;
    }

    /// The same where only the given executor serves, whatever it answers.
    pub async fn run_barrier_as(&self, executor: &TestExecutor) {
        let before = executor.calls().len();
        self.enqueue("barrier").await;
        executor.called(before + 1).await;
    }

    /// Lets time do what it would do by now.
    pub async fn run_sweeps(&self) {
        self.store().sweep().await.unwrap();
    }

    /// How many tasks there are.
    pub async fn count(&self) -> usize {
        let filter = nightshift_client::TaskFilter { limit: Some(1_000), ..Default::default() };
        self.client.list_tasks(&filter).await.unwrap().items.len()
    }
}

/// A program that asks for its tasks.
#[derive(Clone)]
pub struct Worker {
    pub client: Client,
    pub executor: String,
    pub id: String,
}

impl Worker {
    pub fn named(&self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self.clone() }
    }

    /// What there is at this moment.
    pub async fn lease(&self, max_tasks: i64) -> Vec<Lease> {
        self.ask(|request| request.max_tasks = Some(max_tasks)).await
    }

    /// The next task, which has to come soon.
    pub async fn next(&self) -> Lease {
        until("a task for a worker", || async {
            self.ask(|request| request.wait_seconds = Some(5)).await.pop()
        })
        .await
    }

    pub async fn ask(&self, change: impl FnOnce(&mut LeaseRequest)) -> Vec<Lease> {
        let mut request = LeaseRequest { worker_id: self.id.clone(), ..LeaseRequest::default() };
        change(&mut request);
        self.client.lease_tasks(&self.executor, &request).await.unwrap().leases
    }

    pub async fn succeed(&self, lease: &Lease) -> Task {
        self.finish(lease, value("1")).await.unwrap()
    }

    pub async fn finish(
        &self,
        lease: &Lease,
        end: FinishRequest,
    ) -> nightshift_client::Result<Task> {
        self.client.finish_lease(&lease.token, &end).await
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status, code and pointer of a problem, on one line.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "the body says the same as the status line");
        let text = |name: &str| problem[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}", self.status, text("code"), text("pointer"))
    }
}

/// JSON text as a value of the client's.
#[expect(clippy::unnecessary_wraps, reason = "args, kwargs and return values are optional")]
pub fn json(text: &str) -> Option<Json> {
    Some(text.parse().unwrap())
}

/// The end of an attempt with a return value.
pub fn value(text: &str) -> FinishRequest {
    FinishRequest { return_value: json(text), ..FinishRequest::default() }
}
