//! The clock is set, or no report can come for a while. Durations go on as if nothing had
//! happened; an event at a time of day goes by the new one.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use jiff::Timestamp;
use nightshift::clock::{Clock, ManualClock, SystemClock};
use nightshift_client::{
    EnqueueOptions,
    types::{
        Backoff, ErrorCode, ExecutorKind, ExecutorRequest, Lease, RenewRequest, TaskErrorKind,
        TaskRequest, TaskStatus,
    },
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::support::{
    SOON,
    app::{Builder, SECRET, TestApp, Worker, value},
    executor::{Reply, TestExecutor},
    on_both_engines,
    process::{MovableClock, Service},
    soon, until,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// From noon on, where the clocks of these tests begin.
fn noon() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn once(path: &str, timeout_seconds: f64) -> TaskRequest {
    TaskRequest {
        timeout_seconds: Some(timeout_seconds),
        max_attempts: Some(1),
        ..TaskRequest::new(path)
    }
}

fn after(run_after: Timestamp) -> TaskRequest {
    TaskRequest { run_after: Some(run_after.into()), ..TaskRequest::new("later") }
}

/// A worker whose leases last so long, and a lease of a task that may take so long.
async fn leased(app: &TestApp, lease: i64, timeout: f64) -> (Worker, Lease) {
    let worker = app.register_workers("tom", |request| request.lease_seconds = Some(lease)).await;
    app.enqueue_with(once("a.b", timeout)).await;
    let lease = worker.next().await;
    (worker, lease)
}

on_both_engines! {
    async fn a_clock_that_is_set_ahead_ends_no_call(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let gate = Arc::new(Semaphore::new(0));
        let executor = TestExecutor::start({
            let gate = gate.clone();
            move |call| match call.message().data.task_path.as_str() {
                "hangs" => Reply::Hang,
                _ => Reply::Later(gate.clone(), Box::new(Reply::ok("1"))),
            }
        }).await;
        app.register(&executor).await;
        let answers = app.enqueue_with(once("answers", 4.0)).await.id;
        let hangs = app.enqueue_with(once("hangs", 4.0)).await.id;
        executor.called(2).await;
        clock.set(noon() + 2 * HOUR);
        app.run_sweeps().await;
        gate.add_permits(1);
        assert_eq!(app.end(answers).await.status, TaskStatus::Successful);
        // Each still has its time, and no more.
        clock.advance(3 * SECOND);
        app.run_sweeps().await;
        assert_eq!(app.task(hangs).await.status, TaskStatus::Running);
        clock.advance(SECOND);
        assert_eq!(app.end(hangs).await.errors[0].kind, TaskErrorKind::Timeout);
        executor.hung_up(1).await;
    }

    async fn a_clock_that_is_set_loses_no_lease_and_keeps_none(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        for set in [noon() + 2 * HOUR, noon() - 2 * HOUR] {
            let (worker, lease) = leased(&app, 30, 60.0).await;
            let silent = app.enqueue_with(once("silent", 60.0)).await.id;
            worker.next().await;
            clock.set(set);
            clock.advance(29 * SECOND);
            app.run_sweeps().await;
            assert_eq!(app.task(silent).await.status, TaskStatus::Running);
            worker.client.renew_lease(&lease.token, &RenewRequest::default()).await.unwrap();
            clock.advance(SECOND);
            assert_eq!(app.end(silent).await.errors[0].kind, TaskErrorKind::Lost);
            clock.advance(28 * SECOND);
            app.run_sweeps().await;
            assert_eq!(worker.succeed(&lease).await.status, TaskStatus::Successful);
        }
    }

    async fn a_clock_that_is_set_back_holds_up_no_retry(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|call| match call.message().data.attempt {
            1 => Reply::status(500),
            _ => Reply::ok("1"),
        }).await;
        app.register(&executor).await;
        let backoff = Backoff { initial_seconds: Some(3.0), jitter: Some(0.0), ..Default::default() };
        let request = TaskRequest { backoff: Some(backoff), ..TaskRequest::new("a.b") };
        let id = app.enqueue_with(request).await.id;
        app.task_when(id, |task| task.errors.len() == 1).await;
        clock.set(noon() - HOUR);
        app.run_sweeps().await;
        clock.advance(2 * SECOND);
        app.run_sweeps().await;
        assert_eq!(app.task(id).await.status, TaskStatus::Ready);
        clock.advance(SECOND);
        assert_eq!(app.end(id).await.status, TaskStatus::Successful);
    }

    async fn what_is_given_back_after_a_step_is_due_at_once(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let (worker, lease) = leased(&app, 30, 60.0).await;
        clock.set(noon() - HOUR);
        app.client.release_lease(&lease.token).await.unwrap();
        assert_eq!(worker.lease(1).await[0].task.id, lease.task.id);
    }

    async fn an_executor_that_is_held_is_tried_again_although_the_clock_was_set_back(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let first = std::sync::atomic::AtomicBool::new(true);
        let executor = TestExecutor::start(move |_| {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                Reply::Answer(503, "retry-after: 10\r\n", String::new())
            } else {
                Reply::ok("1")
            }
        }).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        app.task_when(id, |task| task.deliveries == 1 && task.status == TaskStatus::Ready).await;
        clock.set(noon() - HOUR);
        app.run_sweeps().await;
        assert_eq!(executor.calls().len(), 1);
        clock.advance(10 * SECOND);
        assert_eq!(app.end(id).await.status, TaskStatus::Successful);
    }

    async fn a_time_of_day_that_a_caller_chose_stays(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register(&executor).await;
        let soon = app.enqueue_with(after(noon() + HOUR)).await.id;
        let late = app.enqueue_with(after(noon() + 2 * HOUR)).await.id;
        clock.set(noon() + HOUR);
        assert_eq!(app.end(soon).await.status, TaskStatus::Successful);
        clock.set(noon());
        clock.advance(HOUR);
        app.run_barrier().await;
        assert_eq!(app.task(late).await.status, TaskStatus::Ready);
        clock.advance(HOUR);
        assert_eq!(app.end(late).await.status, TaskStatus::Successful);
    }

    async fn who_waits_for_a_task_waits_as_long_as_he_said(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        clock.set(noon() - HOUR);
        let waiting = worker.ask(|request| request.wait_seconds = Some(3));
        let passing = async {
            // Whenever the wait begins, it is over three seconds later.
            let mut again = tokio::time::interval(SECOND / 100);
            loop {
                again.tick().await;
                clock.advance(SECOND);
            }
        };
        tokio::select! {
            leases = soon("the end of the wait", waiting) => assert_eq!(leases.len(), 0),
            () = passing => {}
        }
    }

    async fn after_a_silence_who_was_in_time_is_heard(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let (worker, in_time) = leased(&app, 30, 60.0).await;
        let beats = app.enqueue_with(once("beats", 600.0)).await.id;
        let beating = worker.next().await;
        let silent = app.enqueue_with(once("silent", 60.0)).await.id;
        worker.next().await;
        clock.stand_still(2 * HOUR);
        app.run_sweeps().await;
        clock.advance(29 * SECOND);
        app.run_sweeps().await;
        assert_eq!(worker.succeed(&in_time).await.status, TaskStatus::Successful);
        let renewal = worker.client.renew_lease(&beating.token, &RenewRequest::default()).await.unwrap();
        assert_eq!(app.task(beats).await.lease_expires_at, Some(renewal.expires_at));
        // Once: a silent attempt is lost a lease later, and one that took too long has done so.
        clock.advance(SECOND);
        for id in [silent, beats] {
            let task = app.end(id).await;
            assert_eq!((task.attempts, task.errors[0].kind), (1, TaskErrorKind::Timeout));
        }
        let late = worker.finish(&beating, value("1")).await.unwrap_err();
        assert_eq!(late.code(), Some(ErrorCode::LeaseLost));
    }

    async fn after_a_start_who_was_in_time_is_heard(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let (_, in_time) = leased(&app, 30, 60.0).await;
        let app = app.stop().await;
        clock.advance(HOUR);
        let app = app.start();
        app.run_sweeps().await;
        clock.advance(29 * SECOND);
        app.run_sweeps().await;
        let task = app.client.finish_lease(&in_time.token, &value("1")).await.unwrap();
        assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
    }

    async fn a_lease_from_the_future_ends_by_the_time_that_passes(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let (worker, silent) = leased(&app, 30, 60.0).await;
        app.enqueue_with(once("renews", 60.0)).await;
        let renews = worker.next().await;
        let app = app.stop().await;
        clock.set(noon() - HOUR);
        let app = app.start();
        app.run_sweeps().await;
        clock.advance(29 * SECOND);
        app.client.renew_lease(&renews.token, &RenewRequest::default()).await.unwrap();
        clock.advance(SECOND);
        assert_eq!(app.end(silent.task.id).await.errors[0].kind, TaskErrorKind::Lost);
        // The attempt has its time from the start on.
        clock.advance(20 * SECOND);
        app.client.renew_lease(&renews.token, &RenewRequest::default()).await.unwrap();
        clock.advance(10 * SECOND);
        assert_eq!(app.end(renews.task.id).await.errors[0].kind, TaskErrorKind::Timeout);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_processes_one_moves_what_is_stored() {
    let (builder, clock) = Builder::postgres().with_manual_clock();
    let first = builder.start();
    let apps = [first.replica(|_| {}), first.replica(|_| {}), first];
    let all_look = || join_all(apps.iter().map(TestApp::run_sweeps));
    all_look().await;
    let (_, lease) = leased(&apps[0], 30, 10.0).await;
    for set in [noon() + HOUR, noon() - HOUR] {
        clock.set(set);
        all_look().await;
        let task = apps[0].task(lease.task.id).await;
        let left = Timestamp::from(task.lease_expires_at.unwrap()).duration_since(set);
        assert_eq!(left.as_secs(), 10, "up to the end of its time");
    }
    clock.advance(10 * SECOND);
    apps[0].run_sweeps().await;
    assert_eq!(apps[0].end(lease.task.id).await.errors[0].kind, TaskErrorKind::Timeout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_process_lives_the_others_pause_changes_nothing() {
    let (builder, others) = Builder::postgres().with_manual_clock();
    let lives = builder.start();
    let stopped = ManualClock::new(noon());
    let stops = lives.replica_with(stopped.clone());
    stops.run_sweeps().await;
    let (_, lease) = leased(&lives, 100, 600.0).await;
    for _ in 0..6 {
        others.advance(10 * SECOND);
        lives.enqueue("a.b").await;
    }
    stopped.stand_still(60 * SECOND);
    stops.run_sweeps().await;
    let after_stop = lives.task(lease.task.id).await.lease_expires_at;
    assert_eq!(after_stop, Some(lease.expires_at));
    // A machine that stood still, with the clock that nobody sets.
    for _ in 0..3 {
        others.advance(10 * SECOND);
        lives.enqueue("a.b").await;
    }
    stopped.set(noon() + 90 * SECOND);
    stops.run_sweeps().await;
    assert_eq!(lives.task(lease.task.id).await.lease_expires_at, Some(lease.expires_at));
}

fn served_by(executor: &TestExecutor) -> ExecutorRequest {
    ExecutorRequest {
        task_paths: vec!["called".to_owned()],
        url: Some(executor.url()),
        secret: Some(SECRET.to_owned()),
        ..ExecutorRequest::default()
    }
}

/// A call whose executor answers through the gate, and a worker's lease that lasts so long, of tasks
/// that may take so long.
async fn at_work(
    service: &Service,
    executor: &TestExecutor,
    lease: i64,
    timeout: f64,
) -> ([Uuid; 2], String) {
    service.client.put_executor("exec", &served_by(executor)).await.unwrap();
    let workers = ExecutorRequest {
        kind: ExecutorKind::Worker,
        task_paths: vec!["leased".to_owned()],
        lease_seconds: Some(lease),
        ..ExecutorRequest::default()
    };
    service.client.put_executor("tom", &workers).await.unwrap();
    let client = service.client.clone();
    let worker = Worker { client, executor: "tom".to_owned(), id: "w1".to_owned() };
    let mut ids = [Uuid::nil(); 2];
    for (id, path) in ids.iter_mut().zip(["called", "leased"]) {
        let request = once(path, timeout);
        let created = service.client.create_task(&request, &EnqueueOptions::default()).await;
        *id = created.unwrap().task.id;
    }
    executor.called(1).await;
    let lease = worker.next().await;
    (ids, lease.token)
}

async fn gated() -> (TestExecutor, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let executor = TestExecutor::start({
        let gate = gate.clone();
        move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
    });
    (executor.await, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_stopped_hears_what_was_said_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (executor, gate) = gated().await;
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let ([called, leased], token) = at_work(&service, &executor, 6, 5.0).await;
    let stopped = std::time::Instant::now();
    service.signal("STOP");
    gate.add_permits(1);
    // Longer than the lease and both attempts may take.
    until("seven seconds", || async { (stopped.elapsed() > 7 * SECOND).then_some(()) }).await;
    service.signal("CONT");
    let called = service.client.get_task(called, Some(SOON)).await.unwrap();
    assert_eq!((called.status, called.attempts), (TaskStatus::Successful, 1), "{called:?}");
    let finished = service.client.finish_lease(&token, &value("1")).await.unwrap();
    assert_eq!((finished.id, finished.attempts), (leased, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machines_clock_may_be_set_while_the_service_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (executor, gate) = gated().await;
    let clock = MovableClock::new(folder.path());
    let service = Service::start_by(&clock, folder.path()).await;
    let ([called, leased], token) = at_work(&service, &executor, 10, 600.0).await;
    clock.set_ahead("+2h");
    let now = SystemClock::default().now();
    assert!(enqueued_at(&service).await > now + HOUR, "the service has the other time");
    gate.add_permits(1);
    let called = service.client.get_task(called, Some(SOON)).await.unwrap();
    assert_eq!(called.status, TaskStatus::Successful, "{called:?}");
    assert_eq!(service.client.get_task(leased, None).await.unwrap().status, TaskStatus::Running);
    clock.set_ahead("-2h");
    assert!(enqueued_at(&service).await < now - HOUR);
    // Silent from now on, and found by the time that passes.
    let leased = service.client.get_task(leased, Some(SOON)).await.unwrap();
    assert_eq!(leased.errors[0].kind, TaskErrorKind::Lost, "{leased:?}");
    let late = service.client.finish_lease(&token, &value("1")).await.unwrap_err();
    assert_eq!(late.code(), Some(ErrorCode::LeaseLost));
}

async fn enqueued_at(service: &Service) -> Timestamp {
    let request = TaskRequest::new("nobody.serves.it");
    let created = service.client.create_task(&request, &EnqueueOptions::default()).await;
    created.unwrap().task.enqueued_at.into()
}
