//! What PostgreSQL alone can do to the service: go away, come back, and lose an answer.

use std::{sync::Arc, time::Duration};

use diesel::{Connection, PgConnection, RunQueryDsl, connection::SimpleConnection, sql_query};
use nightshift_client::{
    EnqueueOptions,
    types::{ErrorCode, ExecutorRequest, TaskRequest, TaskStatus},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::support::{
    app::{Builder, SECRET, value},
    database::{Database, execute},
    executor::{Reply, TestExecutor},
    process::{Service, binary},
    proxy::{Mode, Proxy},
    soon, until,
};

fn for_all_tasks(executor: &TestExecutor) -> ExecutorRequest {
    ExecutorRequest {
        task_paths: vec!["*".to_owned()],
        url: Some(executor.url()),
        secret: Some(SECRET.to_owned()),
        ..ExecutorRequest::default()
    }
}

/// Cuts every connection to the database but this one.
fn cut_connections(url: &str) {
    let mut connection = PgConnection::establish(url).unwrap();
    sql_query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .execute(&mut connection)
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c45_b14_after_lost_connections_it_goes_on_and_keeps_what_was_done() {
    let builder = Builder::postgres();
    let url = builder.config.database_url.clone();
    let app = builder.start();
    let gate = Arc::new(Semaphore::new(0));
    let executor = TestExecutor::start({
        let gate = gate.clone();
        move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
    })
    .await;
    app.register(&executor).await;
    let id = app.enqueue("a.b").await.id;
    executor.called(1).await;
    cut_connections(&url);
    // The executor answers just now.
    gate.add_permits(1);
    let task = until("the end being read again", || async {
        let task = app.client.get_task(id, None).await;
        task.ok().filter(|task| task.status.is_finished())
    })
    .await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
    cut_connections(&url);
    // The batch that finds the connection gone has done nothing yet, so it is done again.
    app.client.get_readiness().await.unwrap();
    cut_connections(&url);
    gate.add_permits(1);
    let next = app.enqueue("a.b").await.id;
    assert_eq!(app.end(next).await.status, TaskStatus::Successful);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_made_anew_is_told_of_and_gets_its_tables_by_a_start() {
    let builder = Builder::postgres();
    let url = builder.config.database_url.clone();
    let app = builder.start();
    app.enqueue("a.b").await;
    execute(&url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    // As dropping the database would.
    cut_connections(&url);
    let ready = || app.send(app.request("GET", "/readyz"));
    let refused = until("a clear word", || async {
        Some(ready().await).filter(|answer| answer.text.contains("made anew"))
    })
    .await;
    assert_eq!(refused.problem(), "503 unavailable -");
    // It stays so while it is looked at less often.
    assert!(ready().await.text.contains("made anew"));
    let app = app.stop().await.start();
    app.client.get_readiness().await.unwrap();
    assert_eq!(app.count().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b21_while_the_database_is_away_everybody_is_told_and_nothing_is_lost() {
    let database = Database::postgres();
    let (proxy, url) = Proxy::before(&database.url()).await;
    let mut builder = Builder::on(database);
    builder.config.database_url = url;
    let app = builder.start();
    let gate = Arc::new(Semaphore::new(0));
    let executor = TestExecutor::start({
        let gate = gate.clone();
        move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
    })
    .await;
    app.register_as("exec", &executor, |request| request.task_paths = vec!["called".to_owned()])
        .await;
    let worker = app.register_workers("tom", |_| {}).await;
    let called = app.enqueue("called").await.id;
    let waits = app.enqueue("waits").await.id;
    executor.called(1).await;
    proxy.set(Mode::Cut);
    let refused = until("a refusal", || async {
        let answer = app.post("/tasks", r#"{"task_path":"refused"}"#).await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    assert_eq!(refused.problem(), "503 unavailable -");
    assert!(refused.header("retry-after").is_some());
    for (method, path) in [
        ("GET", "/readyz".to_owned()),
        ("GET", format!("/tasks/{called}")),
        ("GET", "/tasks".to_owned()),
        ("GET", "/queues".to_owned()),
        ("POST", format!("/tasks/{called}/cancel")),
    ] {
        let answer = app.send(app.request(method, &path)).await;
        assert_eq!(answer.problem(), "503 unavailable -", "{path}");
        assert!(answer.header("retry-after").is_some(), "{path}");
    }
    app.client.get_health().await.unwrap();
    // What was called ends while nobody can write it down.
    gate.add_permits(1);
    proxy.set(Mode::Pass);
    until("being ready again", || async { app.client.get_readiness().await.ok() }).await;
    let task = app.end(called).await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
    let lease = worker.next().await;
    assert_eq!((lease.task.id, lease.attempt), (waits, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b109_a_commit_whose_answer_is_lost_is_said_again_without_harm() {
    let database = Database::postgres();
    let (proxy, url) = Proxy::before(&database.url()).await;
    let mut builder = Builder::on(database);
    builder.config.database_url = url;
    let app = builder.start();
    let worker = app.register_workers("tom", |_| {}).await;
    let request = TaskRequest { id: Some(Uuid::from_u128(1)), ..TaskRequest::new("a.b") };
    proxy.set(Mode::LoseCommitAfter("INSERT INTO tasks"));
    let lost = app.client.create_task(&request, &EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(lost.code(), Some(ErrorCode::Unavailable));
    proxy.lost_commit().await;
    let again = until("an answer", || async {
        app.client.create_task(&request, &EnqueueOptions::default()).await.ok()
    })
    .await;
    assert!(!again.created, "the first one was stored");
    // The same with the end of an attempt.
    let lease = worker.next().await;
    proxy.set(Mode::LoseCommitAfter("INSERT INTO task_results"));
    let end = value("1");
    app.client.finish_lease(&lease.token, &end).await.unwrap_err();
    proxy.lost_commit().await;
    let again = until("an answer", || async {
        app.client
            .finish_lease(&lease.token, &end)
            .await
            .err()
            .filter(|error| error.code() != Some(ErrorCode::Unavailable))
    })
    .await;
    assert_eq!(again.code(), Some(ErrorCode::LeaseLost), "it was recorded, once");
    let task = app.task(lease.task.id).await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b85_a_database_that_is_away_is_no_storm_in_the_log() {
    let database = Database::postgres();
    let (proxy, url) = Proxy::before(&database.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_on(folder.path(), "127.0.0.1:0", &url).await;
    let executor = TestExecutor::start(|_| Reply::Hang).await;
    let request = ExecutorRequest { lease_seconds: Some(1), ..for_all_tasks(&executor) };
    service.client.put_executor("exec", &request).await.unwrap();
    let task = TaskRequest::new("a.b");
    service.client.create_task(&task, &EnqueueOptions::default()).await.unwrap();
    executor.called(1).await;
    proxy.set(Mode::Cut);
    for _ in 0..300 {
        service.client.create_task(&task, &EnqueueOptions::default()).await.unwrap_err();
        service.client.get_task(Uuid::nil(), None).await.unwrap_err();
    }
    proxy.set(Mode::Pass);
    until("being ready again", || async { service.client.get_readiness().await.ok() }).await;
    service.signal("TERM");
    service.signal("TERM");
    let (status, log) = service.exited().await;
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("can be used again"), "{log}");
    assert!(log.lines().count() < 30, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_database_that_is_away() {
    let database = Database::postgres();
    let (proxy, url) = Proxy::before(&database.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_on(folder.path(), "127.0.0.1:0", &url).await;
    proxy.set(Mode::Cut);
    let task = TaskRequest::new("a.b");
    service.client.create_task(&task, &EnqueueOptions::default()).await.unwrap_err();
    service.signal("TERM");
    assert_eq!(service.exited().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_whose_grace_is_over_waits_for_no_database() {
    let database = Database::postgres();
    let (proxy, url) = Proxy::before(&database.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let no_grace = ["--shutdown-grace-seconds", "0"];
    let service = Service::start_with(folder.path(), "127.0.0.1:0", &url, &no_grace).await;
    let executor = TestExecutor::start(|_| Reply::Hang).await;
    service.client.put_executor("exec", &for_all_tasks(&executor)).await.unwrap();
    let task = TaskRequest::new("a.b");
    service.client.create_task(&task, &EnqueueOptions::default()).await.unwrap();
    executor.called(1).await;
    proxy.set(Mode::Cut);
    service.client.create_task(&task, &EnqueueOptions::default()).await.unwrap_err();
    service.signal("TERM");
    // An end is tried to be stored for half a minute, but not then.
    let stopping = tokio::time::timeout(Duration::from_secs(20), service.exited());
    assert_eq!(stopping.await.expect("it stops").0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_takes_the_time_that_it_takes() {
    let database = Database::postgres();
    let mut connection = PgConnection::establish(&database.url()).unwrap();
    connection
        .batch_execute(
            "CREATE FUNCTION bounds() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF current_setting('statement_timeout') <> '0' \
             OR current_setting('lock_timeout') <> '0' THEN \
             RAISE 'a migration is bounded in time'; END IF; END $$; \
             CREATE EVENT TRIGGER bounded ON ddl_command_start WHEN TAG IN ('CREATE INDEX') \
             EXECUTE FUNCTION bounds()",
        )
        .unwrap();
    let mut command = binary();
    let url = database.url();
    let output = command.args(["migrate", "--database-url", &url]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_used_is_refused_with_the_way_out() {
    let refused = |url: String| async move {
        let mut command = binary();
        command.args(["serve", "--bind", "127.0.0.1:0", "--database-url", &url]);
        let output = soon("a refusal", command.output()).await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(!text.contains("secret"), "{text}");
        text
    };
    let database = Database::postgres();
    let url = database.url();
    let (server, _) = url.rsplit_once('/').unwrap();
    let text = refused(format!("{server}/not_there")).await;
    assert!(text.contains("createdb"), "{text}");
    let text = refused("postgres://nobody:secret@127.0.0.1:9/x".to_owned()).await;
    assert!(text.contains("is PostgreSQL running"), "{text}");
    for password in ["%zzsecret", "a/secret", "a?secret", "a@secret", "[secret"] {
        let text = refused(format!("postgres://u:{password}@127.0.0.1:9/x")).await;
        assert!(text.contains("database_url") || text.contains("is PostgreSQL running"), "{text}");
    }
    refused("postgres://u:secret@[::1/x".to_owned()).await;
    // Nobody vouches for the server's certificate.
    let text = refused(format!("{url}?sslmode=verify-full&sslrootcert=system")).await;
    assert!(text.contains("sslmode"), "{text}");
    let mut connection = PgConnection::establish(&url).unwrap();
    let (_, name) = url.rsplit_once('/').unwrap();
    let read_only = |on| format!("ALTER DATABASE {name} SET default_transaction_read_only = {on}");
    connection.batch_execute(&read_only("on")).unwrap();
    let text = refused(url.clone()).await;
    assert!(text.contains("standby"), "{text}");
    connection.batch_execute("SET default_transaction_read_only = off").unwrap();
    connection.batch_execute(&read_only("off")).unwrap();
    // Nothing was half done: now it starts, and then a newer one's schema is refused.
    Builder::on(database_of(&url)).start().stop().await;
    connection
        .batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')")
        .unwrap();
    let text = refused(url.clone()).await;
    assert!(text.contains("migration 9999"), "{text}");
    drop(database);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_the_database_can_be_encrypted_and_its_certificate_checked() {
    let cert = std::env::vars()
        .find_map(|(name, value)| (name == "TEST_POSTGRES_CERT").then_some(value))
        .expect("TEST_POSTGRES_CERT is not set: run `make test`");
    let database = Database::postgres();
    let url = format!("{}?sslmode=verify-full&sslrootcert={cert}", database.url());
    let mut builder = Builder::on(database);
    builder.config.database_url = url.clone();
    let app = builder.start();
    app.enqueue("a.b").await;
    let mut connection = PgConnection::establish(&url).unwrap();
    let plain: i64 = diesel::dsl::sql::<diesel::sql_types::BigInt>(
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE datname = current_database() AND NOT ssl",
    )
    .get_result(&mut connection)
    .unwrap();
    assert_eq!(plain, 0, "of the writer's, the readers' and the listener's connections");
}

/// A database that somebody else deletes.
fn database_of(url: &str) -> Database {
    Database::Borrowed(url.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_together_migrate_once() {
    let database = Database::postgres();
    let url = database.url();
    let starting = (0..4).map(|_| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || {
            tokio::runtime::Handle::current().block_on(async {
                Builder::on(database_of(&url)).start().stop().await;
            });
        })
    });
    for started in futures_util::future::join_all(starting).await {
        started.unwrap();
    }
    drop(database);
}
