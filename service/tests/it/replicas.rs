//! Several processes on one PostgreSQL. Where time stands still, only what they tell each other
//! can have brought about what is waited for.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use nightshift::clock::{Clock, SystemClock, later};
use nightshift_client::{
    EnqueueOptions,
    types::{
        ErrorCode, Lease, QueueChange, RenewRequest, TaskBatch, TaskErrorKind, TaskRequest,
        TaskStatus,
    },
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::support::{
    app::{Builder, TestApp, Worker, value},
    database::Database,
    executor::{Reply, TestExecutor},
    soon, until,
};

/// Three processes whose clock stands still.
fn three() -> [TestApp; 3] {
    let (builder, _clock) = Builder::postgres().with_manual_clock();
    three_of(builder)
}

fn three_of(builder: Builder) -> [TestApp; 3] {
    let first = builder.start();
    let second = first.replica(|_| {});
    let third = first.replica(|_| {});
    [first, second, third]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_passes_through_three_processes() {
    let [a, b, c] = three();
    let mut worker = a.register_workers("tom", |_| {}).await;
    worker.client = c.client.clone();
    for enqueued_before in [false, true] {
        let (lease, id) = if enqueued_before {
            let id = a.enqueue("a.b").await.id;
            (worker.next().await, id)
        } else {
            let waiting = worker.ask(|request| request.wait_seconds = Some(60));
            let enqueuing = async { a.enqueue("a.b").await.id };
            let both = Box::pin(async { tokio::join!(waiting, enqueuing) });
            let (mut leases, id) = soon("a lease", both).await;
            (leases.pop().unwrap(), id)
        };
        assert_eq!(lease.task.id, id);
        let waiting = b.client.get_task(id, Some(Duration::from_mins(1)));
        let finishing = async {
            a.client.renew_lease(&lease.token, &RenewRequest::default()).await.unwrap();
            a.client.finish_lease(&lease.token, &value("7")).await.unwrap()
        };
        let both = Box::pin(async { tokio::join!(waiting, finishing) });
        let (waited, finished) = soon("the end", both).await;
        assert_eq!(waited.unwrap(), finished);
        assert_eq!(finished.status, TaskStatus::Successful);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b27_a_cancel_reaches_the_process_that_calls() {
    let [a, b, c] = three();
    let executor = TestExecutor::start(|_| Reply::Hang).await;
    a.register(&executor).await;
    for app in [&a, &b, &c] {
        let id = a.enqueue("a.b").await.id;
        executor.called_for_execution(executor.executions().len().max(1)).await;
        until("the start", || async { (a.task(id).await.attempts == 1).then_some(()) }).await;
        app.client.cancel_task(id, false).await.unwrap();
        assert_eq!(b.end(id).await.status, TaskStatus::Cancelled);
    }
    executor.hung_up(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c23_b67_each_task_runs_once_and_limits_hold_over_all_processes() {
    const TASKS: usize = 300;
    let apps = three();
    let executor = TestExecutor::start(|_| Reply::ok("1")).await;
    apps[0].register_as("exec", &executor, |request| request.concurrency = Some(4)).await;
    let enqueuing = apps.iter().map(|app| async {
        let tasks = (0..TASKS / 3).map(|_| TaskRequest::new("a.b")).collect();
        app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids
    });
    let ids: Vec<Uuid> = join_all(enqueuing).await.into_iter().flatten().collect();
    for (id, app) in ids.iter().zip(apps.iter().cycle()) {
        let task = app.end(*id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
        assert_eq!(task.worker_ids.len(), 1);
    }
    assert_eq!(executor.executions().len(), TASKS);
    assert!(executor.most_at_once() <= 4, "{}", executor.most_at_once());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b67_claims_of_several_processes_at_once_keep_to_the_limits() {
    const LIMIT: usize = 3;
    let apps = three();
    let worker = apps[0].register_workers("tom", |_| {}).await;
    let limit = QueueChange { concurrency: Some(Some(3)), ..QueueChange::default() };
    apps[0].client.update_queue("default", &limit).await.unwrap();
    let tasks = (0..200).map(|_| TaskRequest::new("a.b")).collect();
    apps[0].client.create_tasks(&TaskBatch { tasks }).await.unwrap();
    for _ in 0..20 {
        let asking = apps.iter().cycle().take(12).map(|app| {
            let worker = Worker { client: app.client.clone(), ..worker.clone() };
            async move { worker.lease(2).await }
        });
        let leases: Vec<Lease> = join_all(asking).await.into_iter().flatten().collect();
        assert_eq!(leases.len(), LIMIT);
        for lease in &leases {
            worker.succeed(lease).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b71_the_same_said_to_all_processes_at_once_is_said_once() {
    let apps = three();
    let by_id = TaskRequest { id: Some(Uuid::from_u128(7)), ..TaskRequest::new("a.b") };
    let by_unique_key = TaskRequest { unique_key: Some("k".to_owned()), ..TaskRequest::new("a.b") };
    let key =
        EnqueueOptions { idempotency_key: Some("same".to_owned()), ..EnqueueOptions::default() };
    for (request, options) in [
        (by_id, EnqueueOptions::default()),
        (by_unique_key, EnqueueOptions::default()),
        (TaskRequest::new("a.b"), key),
    ] {
        let saying = (0..100).zip(apps.iter().cycle()).map(|(_, app)| {
            let (request, options) = (&request, &options);
            async move { app.client.create_task(request, options).await.unwrap() }
        });
        let said = join_all(saying).await;
        let ids: BTreeSet<Uuid> = said.iter().map(|enqueued| enqueued.task.id).collect();
        assert_eq!(ids.len(), 1, "{request:?}");
        assert_eq!(said.iter().filter(|enqueued| enqueued.created).count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b06_what_one_process_registers_all_know() {
    let [a, b, c] = three();
    let waiting = a.enqueue("late.a").await.id;
    let others = TestExecutor::start(|_| Reply::ok("1")).await;
    b.register_as("others", &others, |request| request.task_paths = vec!["other.*".to_owned()])
        .await;
    let executor = TestExecutor::start(|_| Reply::ok("2")).await;
    c.register(&executor).await;
    // By any of the three, without anybody's clock moving.
    for app in [&a, &b, &c] {
        let other = app.enqueue("other.a").await.id;
        let late = app.enqueue("late.b").await.id;
        assert_eq!(app.end(other).await.executor.as_deref(), Some("others"));
        assert_eq!(app.end(late).await.executor.as_deref(), Some("exec"));
    }
    a.run_sweeps().await;
    assert_eq!(b.end(waiting).await.executor.as_deref(), Some("exec"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b58_clocks_that_disagree_do_not_matter() {
    let now = SystemClock::default().now();
    let clock = |ahead: i64| {
        let clock = SystemClock::default();
        // The machine's clock is wrong by so many seconds.
        clock.agree(now + jiff::SignedDuration::from_secs(ahead));
        clock
    };
    let a = Builder::postgres().with_clock(clock(0)).start();
    let b = a.replica_with(clock(600));
    let c = a.replica_with(clock(-600));
    let worker = a.register_workers("tom", |request| request.lease_seconds = Some(30)).await;
    let hour = later(now, Duration::from_mins(5)).into();
    let future = TaskRequest { run_after: Some(hour), ..TaskRequest::new("future") };
    let future = a.enqueue_with(future).await.id;
    for (enqueues, leases, ends) in [(&a, &b, &c), (&b, &c, &a), (&c, &a, &b)] {
        let id = enqueues.enqueue("a.b").await.id;
        let mut worker = worker.clone();
        worker.client = leases.client.clone();
        let lease = worker.next().await;
        assert_eq!(lease.task.id, id, "nothing due in five minutes starts now");
        // Nobody takes the lease away, whatever he believes the time to be.
        for app in [&a, &b, &c] {
            app.run_sweeps().await;
        }
        let task = ends.client.finish_lease(&lease.token, &value("1")).await.unwrap();
        assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
        let times = [task.enqueued_at, task.started_at.unwrap(), task.finished_at.unwrap()];
        assert!(times.is_sorted(), "{times:?}");
    }
    assert_eq!(b.task(future).await.status, TaskStatus::Ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_listening_they_find_out_by_looking() {
    let database = Database::postgres();
    let pooled = database.pooled_url();
    let mut builder = Builder::on(database);
    builder.config.database_url = pooled;
    builder.config.database_pooled = true;
    let [a, b, c] = three_of(builder);
    let executor = TestExecutor::start(|call| {
        if call.message().data.task_path == "hangs" { Reply::Hang } else { Reply::ok("1") }
    })
    .await;
    b.register_as("exec", &executor, |request| {
        request.task_paths = vec!["hangs".to_owned(), "calls".to_owned()];
    })
    .await;
    let mut worker = a.register_workers("tom", |_| {}).await;
    worker.client = c.client.clone();
    let waiting = worker.ask(|request| request.wait_seconds = Some(60));
    let enqueuing = async { a.enqueue("a.b").await.id };
    let both = Box::pin(async { tokio::join!(waiting, enqueuing) });
    let (leases, id) = soon("a lease", both).await;
    assert_eq!(leases[0].task.id, id);
    let ends = b.client.get_task(id, Some(Duration::from_mins(1)));
    let end = value("1");
    let finish = a.client.finish_lease(&leases[0].token, &end);
    let both = Box::pin(async { tokio::join!(ends, finish) });
    assert_eq!(soon("the end", both).await.0.unwrap().status, TaskStatus::Successful);
    for app in [&a, &b, &c] {
        let id = app.enqueue("calls").await.id;
        assert_eq!(c.end(id).await.status, TaskStatus::Successful);
        let id = app.enqueue("hangs").await.id;
        until("the start", || async { (a.task(id).await.attempts == 1).then_some(()) }).await;
        a.client.cancel_task(id, false).await.unwrap();
        assert_eq!(c.end(id).await.status, TaskStatus::Cancelled);
    }
    executor.hung_up(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b27_a_sweep_finds_a_cancel_that_nobody_told_of() {
    let database = Database::postgres();
    let pooled = database.pooled_url();
    let (mut builder, _clock) = Builder::on(database).with_manual_clock();
    builder.config.database_url = pooled;
    builder.config.database_pooled = true;
    let [calls, cancels, _] = three_of(builder);
    let executor = TestExecutor::start(|_| Reply::Hang).await;
    calls.register(&executor).await;
    let id = calls.enqueue("a.b").await.id;
    executor.called(1).await;
    cancels.client.cancel_task(id, false).await.unwrap();
    calls.run_sweeps().await;
    executor.hung_up(1).await;
    let task = cancels.task_when(id, |task| task.status.is_finished()).await;
    assert_eq!(task.status, TaskStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b03_what_a_dead_process_ran_is_found_by_the_others() {
    let gate = Arc::new(Semaphore::new(0));
    let executor = TestExecutor::start({
        let gate = Arc::clone(&gate);
        move |_| Reply::Later(Arc::clone(&gate), Box::new(Reply::ok("1")))
    })
    .await;
    let database = Database::postgres();
    let folder = tempfile::tempdir().unwrap();
    let url = database.url();
    let dies = crate::support::process::Service::start_on(folder.path(), "127.0.0.1:0", &url).await;
    let mut request = nightshift_client::types::ExecutorRequest {
        task_paths: vec!["*".to_owned()],
        url: Some(executor.url()),
        secret: Some(crate::support::app::SECRET.to_owned()),
        lease_seconds: Some(1),
        ..Default::default()
    };
    request.backoff = Some(nightshift_client::types::Backoff {
        initial_seconds: Some(0.0),
        ..Default::default()
    });
    dies.client.put_executor("exec", &request).await.unwrap();
    let task = TaskRequest::new("a.b");
    let enqueued = dies.client.create_task(&task, &EnqueueOptions::default()).await.unwrap();
    executor.called(1).await;
    let lives = Builder::on(database).start();
    dies.kill().await;
    gate.add_permits(2);
    let task = lives.end(enqueued.task.id).await;
    assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 2));
    assert_eq!(task.errors[0].kind, TaskErrorKind::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c31_a_lease_is_the_same_for_all_processes() {
    let [a, b, c] = three();
    let worker = a.register_workers("tom", |_| {}).await;
    a.enqueue("a.b").await;
    let lease = worker.next().await;
    let end = value("1");
    let ends = join_all([&a, &b, &c].map(|app| app.client.finish_lease(&lease.token, &end))).await;
    let won = ends.iter().filter(|end| end.is_ok()).count();
    let lost = ends
        .iter()
        .filter_map(|end| end.as_ref().err())
        .filter(|error| error.code() == Some(ErrorCode::LeaseLost))
        .count();
    assert_eq!((won, lost), (1, 2), "{ends:?}");
}
