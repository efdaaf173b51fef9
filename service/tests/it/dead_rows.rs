//! A transaction that somebody leaves open on PostgreSQL keeps what is dead in the indexes.

use std::time::Duration;

use diesel::{
    Connection, PgConnection, QueryableByName, RunQueryDsl, connection::SimpleConnection,
    sql_query, sql_types::BigInt,
};
use nightshift_client::types::{
    Backoff, ErrorReport, FinishBatch, FinishEntry, FinishRequest, QueueChange, TaskBatch,
    TaskRequest, TaskStatus,
};

use crate::support::{
    app::{Builder, TestApp, Worker, json},
    soon, until,
};

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Index entries of tasks that the service has looked at so far, once it has gone.
async fn entries_read(database_url: &str) -> i64 {
    let mut connection = PgConnection::establish(database_url).unwrap();
    // PostgreSQL counts what a connection has read when its process ends, a moment after the
    // service has closed it.
    until("the end of the service's connections", || {
        let open = number(
            &mut connection,
            "SELECT count(*) AS number FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name LIKE 'nightshift%'",
        );
        async move { (open == 0).then_some(()) }
    })
    .await;
    number(
        &mut connection,
        "SELECT sum(idx_tup_read)::bigint AS number FROM pg_stat_user_indexes \
         WHERE relname = 'tasks'",
    )
}

fn number(connection: &mut PgConnection, query: &str) -> i64 {
    sql_query(query).get_result::<Number>(connection).unwrap().number
}

/// Enqueues so many tasks and ends them.
async fn work(app: &TestApp, worker: &Worker, count: i64) {
    let tasks = (0..count).map(|_| TaskRequest::new("a.b")).collect();
    app.client.create_tasks(&TaskBatch { tasks }).await.unwrap();
    let leases = worker.lease(count).await;
    assert_eq!(leases.len(), usize::try_from(count).unwrap());
    let results = leases
        .iter()
        .map(|lease| FinishEntry {
            token: lease.token.clone(),
            return_value: json("1"),
            ..FinishEntry::default()
        })
        .collect();
    app.client.finish_leases(&FinishBatch { results }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_steps_over_what_a_snapshot_keeps() {
    const DEAD: i64 = 4_000;
    const CLAIMS: i64 = 100;
    let (builder, clock) = Builder::postgres().with_manual_clock();
    let url = builder.config.database_url.clone();
    let app = builder.start();
    // Both kinds of limits, so that what runs is counted.
    let worker = app.register_workers("tom", |request| request.concurrency = Some(2_000)).await;
    let limit = QueueChange { concurrency: Some(Some(2_000)), ..QueueChange::default() };
    app.client.update_queue("default", &limit).await.unwrap();
    let mut other = PgConnection::establish(&url).unwrap();
    other
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tasks")
        .unwrap();
    for _ in 0..DEAD / 1_000 {
        work(&app, &worker, 1_000).await;
    }
    // The leases are past: until then the look for the next one to end steps over them.
    clock.advance(Duration::from_mins(1));
    let stopped = app.stop().await;
    let before = entries_read(&url).await;
    let app = stopped.start();
    let worker = Worker { client: app.client.clone(), ..worker };
    for _ in 0..CLAIMS {
        work(&app, &worker, 1).await;
        app.run_sweeps().await;
    }
    // Its database stays as long as this.
    let _stopped = app.stop().await;
    let read = entries_read(&url).await - before;
    // Once in a minute a look begins at the beginning; all of them would read some millions.
    assert!(read < CLAIMS * DEAD, "{read} entries for {CLAIMS} claims");
    other.batch_execute("COMMIT").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_put_back_in_its_old_place_is_found() {
    // Time stands still but for the test.
    let (builder, clock) = Builder::postgres().with_manual_clock();
    let first = builder.start();
    let second = first.replica(|_| {});
    let worker = first.register_workers("tom", |request| request.lease_seconds = Some(3_600)).await;
    let there = Worker { client: second.client.clone(), ..worker.clone() };
    let early = first.enqueue("early").await.id;
    let backoff = Backoff { initial_seconds: Some(600.0), jitter: Some(0.0), ..Backoff::default() };
    let again = first
        .enqueue_with(TaskRequest { backoff: Some(backoff), ..TaskRequest::new("again") })
        .await
        .id;
    let held = worker.lease(2).await;
    assert_eq!(held.iter().map(|lease| lease.task.id).collect::<Vec<_>>(), [early, again]);
    let error = ErrorReport { message: Some("no".to_owned()), ..ErrorReport::default() };
    let failed = FinishRequest { error: Some(error), ..FinishRequest::default() };
    worker.finish(&held[1], failed).await.unwrap();
    clock.advance(Duration::from_mins(1));
    // The second one's looks begin after those two by now.
    for _ in 0..2 {
        second.enqueue("late").await;
        let lease = there.next().await;
        assert_eq!(lease.task.task_path, "late");
        there.succeed(&lease).await;
        assert!(there.lease(1).await.is_empty());
    }
    first.client.release_lease(&held[0].token).await.unwrap();
    let lease = soon("the task that was handed back", there.next()).await;
    assert_eq!((lease.task.id, lease.attempt), (early, 1));
    there.succeed(&lease).await;
    clock.advance(Duration::from_mins(10));
    let lease = soon("the task that became due", there.next()).await;
    assert_eq!((lease.task.id, lease.attempt), (again, 2));
    // And what a caller says is due long since.
    let past = "2026-11-25T11:00:00Z".parse().unwrap();
    let past = TaskRequest { run_after: Some(past), ..TaskRequest::new("past") };
    let past = first.enqueue_with(past).await.id;
    let lease = soon("the task that was due before", there.next()).await;
    assert_eq!(lease.task.id, past);
    there.succeed(&lease).await;
    assert_eq!(first.task(past).await.status, TaskStatus::Successful);
}
