//! Restarts under load, schemas of earlier versions, and one of a later version.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use diesel::{
    Connection, PgConnection, SqliteConnection, connection::SimpleConnection,
    migration::MigrationSource,
};
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use nightshift_client::{
    Client, EnqueueOptions,
    types::{
        Backoff, ErrorCode, ExecutorKind, ExecutorRequest, LeaseRequest, TaskRequest, TaskStatus,
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use uuid::Uuid;

use crate::support::{
    SOON,
    app::{Builder, SECRET, Worker, value},
    database::Database,
    executor::{Reply, TestExecutor},
    process::{Service, binary},
    soon, until,
};

/// Hands each connection to the next of several services that takes it, as a proxy would.
struct Balancer {
    server: String,
    accepting: JoinHandle<()>,
}

impl Balancer {
    async fn start(binds: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let turn = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (binds, turn) = (binds.clone(), Arc::clone(&turn));
                tokio::spawn(async move {
                    for _ in &binds {
                        let bind = &binds[turn.fetch_add(1, Ordering::Relaxed) % binds.len()];
                        if let Ok(mut far) = TcpStream::connect(bind).await {
                            copy_bidirectional(&mut near, &mut far).await.ok();
                            return;
                        }
                    }
                });
            }
        });
        Self { server, accepting }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Clients enqueue by a balancer, an executor is called and workers take tasks, while the
/// services are stopped and started one after the other.
async fn restarted_under_load(folder: &Path, database_url: &str, replicas: usize) {
    const CLIENTS: usize = 8;
    const TASKS_BETWEEN: usize = 200;
    let runs: Arc<Mutex<HashMap<Uuid, u32>>> = Arc::default();
    let executor = TestExecutor::start({
        let runs = Arc::clone(&runs);
        move |call| {
            *runs.lock().unwrap().entry(call.message().data.task_id).or_default() += 1;
            Reply::ok("1")
        }
    })
    .await;
    let mut services = Vec::new();
    for _ in 0..replicas {
        services.push(Service::start_on(folder, "127.0.0.1:0", database_url).await);
    }
    register(&services[0].client, executor.url()).await;
    let balancer = Balancer::start(services.iter().map(Service::bind).collect()).await;
    let client = Client::new(&balancer.server).unwrap();

    let acknowledged: Arc<Mutex<Vec<Uuid>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let enqueuing: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let path = if number % 2 == 0 { "called" } else { "taken" };
            tokio::spawn(enqueue(
                client.clone(),
                path,
                Arc::clone(&acknowledged),
                Arc::clone(&stop),
            ))
        })
        .collect();
    let working = tokio::spawn(work(client.clone(), Arc::clone(&runs)));
    for number in 0..replicas {
        let wanted = acknowledged.lock().unwrap().len() + TASKS_BETWEEN;
        until("enough acknowledged tasks", || async {
            (acknowledged.lock().unwrap().len() >= wanted).then_some(())
        })
        .await;
        let service = services.remove(0);
        let bind = service.bind();
        service.signal("TERM");
        let (code, log) = service.exited().await;
        assert_eq!(code, Some(0), "service {number}: {log}");
        services.push(Service::start_on(folder, &bind, database_url).await);
    }
    stop.store(true, Ordering::SeqCst);
    for client in enqueuing {
        soon("the end of a client", client).await.unwrap();
    }
    let ids = acknowledged.lock().unwrap().clone();
    for id in &ids {
        let task = client.get_task(*id, Some(SOON)).await.unwrap();
        assert_eq!(task.status, TaskStatus::Successful, "{task:?}");
        assert_eq!(task.attempts, 1, "{task:?}");
        assert_eq!(runs.lock().unwrap().get(id), Some(&1), "{id} ran once");
    }
    working.abort();
    assert!(ids.len() >= replicas * TASKS_BETWEEN);
}

async fn register(client: &Client, url: String) {
    let called = ExecutorRequest {
        task_paths: vec!["called".to_owned()],
        url: Some(url),
        secret: Some(SECRET.to_owned()),
        ..ExecutorRequest::default()
    };
    let taken = ExecutorRequest {
        kind: ExecutorKind::Worker,
        task_paths: vec!["taken".to_owned()],
        lease_seconds: Some(5),
        ..ExecutorRequest::default()
    };
    client.put_executor("exec", &called).await.unwrap();
    client.put_executor("tom", &taken).await.unwrap();
}

/// No call may fail: the client itself tries again what may be.
async fn enqueue(
    client: Client,
    path: &'static str,
    acknowledged: Arc<Mutex<Vec<Uuid>>>,
    stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::SeqCst) {
        let id = nightshift::entropy::Entropy::from_system().uuid();
        let backoff = Some(Backoff { initial_seconds: Some(0.0), ..Backoff::default() });
        let request = TaskRequest { id: Some(id), backoff, ..TaskRequest::new(path) };
        client.create_task(&request, &EnqueueOptions::default()).await.unwrap();
        acknowledged.lock().unwrap().push(id);
    }
}

/// Asks on, whatever happens to the service.
async fn work(client: Client, runs: Arc<Mutex<HashMap<Uuid, u32>>>) {
    let request = LeaseRequest {
        worker_id: "w1".to_owned(),
        max_tasks: Some(10),
        wait_seconds: Some(5),
        ..LeaseRequest::default()
    };
    loop {
        let Ok(given) = client.lease_tasks("tom", &request).await else {
            tokio::task::yield_now().await;
            continue;
        };
        for lease in given.leases {
            *runs.lock().unwrap().entry(lease.task.id).or_default() += 1;
            // Repeated by itself: that it is over may mean that the first try was recorded.
            if let Err(error) = client.finish_lease(&lease.token, &value("1")).await {
                assert_eq!(error.code(), Some(ErrorCode::LeaseLost), "{error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_are_restarted_one_by_one_and_nobody_notices_postgres() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::postgres();
    restarted_under_load(folder.path(), &database.url(), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_work_in_flight_loses_nothing_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::sqlite();
    restarted_under_load(folder.path(), &database.url(), 1).await;
}

/// Rows as the first version wrote them: a worker, and a task that waits, one that runs and one
/// that has succeeded.
const FIRST_ROWS: &str = include_str!("upgrade.sql");

/// Runs the first `steps` migrations, as the versions of that time did.
fn migrate_up_to(url: &str, steps: usize) {
    let folder = |engine: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        FileBasedMigrations::from_path(root.join("migrations").join(engine)).unwrap()
    };
    if let Some(file) = url.strip_prefix("sqlite://") {
        let mut c = SqliteConnection::establish(file).unwrap();
        run_first(&mut c, &folder("sqlite"), steps);
        c.batch_execute(FIRST_ROWS).unwrap();
        c.batch_execute("UPDATE task_seqs SET last = 3").unwrap();
    } else {
        let mut c = PgConnection::establish(url).unwrap();
        run_first(&mut c, &folder("postgres"), steps);
        c.batch_execute(&FIRST_ROWS.replace("x'", "'\\x")).unwrap();
        c.batch_execute("SELECT setval('task_seqs', 3)").unwrap();
    }
}

fn run_first<DB: diesel::backend::Backend>(
    connection: &mut impl MigrationHarness<DB>,
    source: &FileBasedMigrations,
    steps: usize,
) {
    for _ in 0..steps {
        connection.run_next_migration(source.clone()).unwrap();
    }
}

async fn every_earlier_schema_is_brought_up_to_date(database: impl Fn() -> Database) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let source = FileBasedMigrations::from_path(root.join("migrations/sqlite")).unwrap();
    let known = MigrationSource::<diesel::sqlite::Sqlite>::migrations(&source).unwrap().len();
    for steps in 1..=known {
        let database = database();
        migrate_up_to(&database.url(), steps);
        let app = Builder::on(database).start();
        let [waits, runs, done] = [1, 2, 3].map(Uuid::from_u128);
        let task = app.task(done).await;
        assert_eq!(task.status, TaskStatus::Successful, "after {steps} migrations");
        assert_eq!(task.return_value.unwrap().as_str(), r#"{"b": 1}"#);
        assert_eq!(app.task(waits).await.args.as_str(), "[1e-7]");
        assert_eq!(app.task(runs).await.status, TaskStatus::Running);
        let worker = Worker { client: app.client.clone(), executor: "tom".into(), id: "w".into() };
        let lease = worker.next().await;
        assert_eq!(lease.task.id, waits);
        worker.succeed(&lease).await;
        let new = app.enqueue("a.b").await.id;
        assert_eq!(worker.next().await.task.id, new);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_earlier_schema_is_brought_up_to_date_sqlite() {
    every_earlier_schema_is_brought_up_to_date(Database::sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_earlier_schema_is_brought_up_to_date_postgres() {
    every_earlier_schema_is_brought_up_to_date(Database::postgres).await;
}

async fn b87_a_newer_schema_is_refused(database: Database) {
    const LATER: &str = "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')";
    let url = database.url();
    let _stopped = Builder::on(database).start().stop().await;
    match url.strip_prefix("sqlite://") {
        Some(file) => SqliteConnection::establish(file).unwrap().batch_execute(LATER).unwrap(),
        None => PgConnection::establish(&url).unwrap().batch_execute(LATER).unwrap(),
    }
    for command in [&["serve", "--bind", "127.0.0.1:0"][..], &["migrate"]] {
        let mut refused = binary();
        let refused = refused.args(command).args(["--database-url", &url]);
        let refused = soon("a refusal", refused.output()).await.unwrap();
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{text}");
        assert!(text.contains("migration 9999"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b87_a_newer_schema_is_refused_sqlite() {
    b87_a_newer_schema_is_refused(Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b87_a_newer_schema_is_refused_postgres() {
    b87_a_newer_schema_is_refused(Database::postgres()).await;
}
