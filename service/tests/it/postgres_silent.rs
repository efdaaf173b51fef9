//! A PostgreSQL whose connections stay open and that never answers: what a stopped server and a
//! network that swallows packets look like.

use std::time::Duration;

use diesel::{
    Connection, PgConnection, RunQueryDsl, connection::SimpleConnection, dsl::sql,
    sql_types::BigInt,
};
use nightshift_client::{
    EnqueueOptions,
    types::{ErrorCode, TaskRequest},
};
use uuid::Uuid;

use crate::support::{
    app::{Builder, Worker},
    database::Database,
    process::{Service, binary, signal},
    proxy::{Mode, Proxy},
    soon, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_database_falls_silent_all_goes_on_with_the_next() {
    let database = Database::postgres();
    let ([first, _second], url) = Proxy::two_before(&database.url()).await;
    // Time stands still, so that nobody looks by himself.
    let (mut builder, _clock) = Builder::on(database).with_manual_clock();
    let direct = std::mem::replace(&mut builder.config.database_url, url);
    let app = builder.start();
    let other = app.replica(|builder| builder.config.database_url = direct);
    let worker = app.register_workers("tom", |_| {}).await;
    first.set(Mode::BlackHole);
    let request = TaskRequest { id: Some(Uuid::from_u128(1)), ..TaskRequest::new("a.b") };
    until("a write", || async {
        app.client.create_task(&request, &EnqueueOptions::default()).await.ok()
    })
    .await;
    assert_eq!(app.task(Uuid::from_u128(1)).await.id, Uuid::from_u128(1), "it is read again");
    worker.next().await;
    hears(&worker, async { other.enqueue("a.b").await.id }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_hears_nothing_is_made_anew_while_the_database_answers_others() {
    let database = Database::postgres();
    let ([first, _second], url) = Proxy::two_before(&database.url()).await;
    let (mut builder, _clock) = Builder::on(database).with_manual_clock();
    builder.config.database_listen_url = Some(url);
    let app = builder.start();
    let other = app.replica(|builder| builder.config.database_listen_url = None);
    let worker = app.register_workers("tom", |_| {}).await;
    hears(&worker, async { other.enqueue("a.b").await.id }).await;
    first.set(Mode::BlackHole);
    hears(&worker, async { other.enqueue("a.b").await.id }).await;
}

/// A worker that waits is told of a task that another process enqueues.
async fn hears(worker: &Worker, enqueuing: impl Future<Output = Uuid>) {
    let waiting = worker.ask(|request| request.wait_seconds = Some(60));
    let both = Box::pin(async { tokio::join!(waiting, enqueuing) });
    let (leases, id) = soon("a lease", both).await;
    assert_eq!(leases.iter().map(|lease| lease.task.id).collect::<Vec<_>>(), [id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_database_that_never_answers() {
    let database = Database::postgres();
    let (proxy, url) = Proxy::before(&database.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start_on(folder.path(), "127.0.0.1:0", &url).await;
    proxy.set(Mode::BlackHole);
    let task = TaskRequest::new("a.b");
    let options = EnqueueOptions::default();
    let refused = service.client.create_task(&task, &options);
    let refused = tokio::time::timeout(Duration::from_mins(1), refused).await.unwrap();
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::Unavailable));
    service.signal("TERM");
    let (status, log) = service.exited().await;
    assert_eq!(status, Some(0), "{log}");
    assert_eq!(log.matches("though its connections are open").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_start() {
    let database = Database::postgres();
    let mut connection = PgConnection::establish(&database.url()).unwrap();
    // Another process migrates, and takes its time.
    connection.batch_execute("SELECT pg_advisory_lock(86119602716676)").unwrap();
    let mut service = binary()
        .args(["serve", "--bind", "127.0.0.1:0", "--database-url", &database.url()])
        .spawn()
        .unwrap();
    until("waiting for the turn", || {
        let waiting = sql::<BigInt>(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database \
             WHERE datname = current_database() AND NOT granted",
        );
        let waiting: i64 = waiting.get_result(&mut connection).unwrap();
        async move { (waiting > 0).then_some(()) }
    })
    .await;
    signal(&service, "TERM");
    let status = soon("the end of the service", service.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}
