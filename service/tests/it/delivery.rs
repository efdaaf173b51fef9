//! Three kinds of trouble, told apart: not started, failed, lost.

use std::{
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use nightshift_client::types::{
    Backoff, ReasonCode, TaskBatch, TaskErrorKind, TaskRequest, TaskStatus,
};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::support::{
    executor::{Reply, TestExecutor},
    on_both_engines, until,
};

const SECOND: Duration = Duration::from_secs(1);

fn at_once(path: &str) -> TaskRequest {
    let backoff = Backoff { initial_seconds: Some(0.0), ..Backoff::default() };
    TaskRequest { backoff: Some(backoff), ..TaskRequest::new(path) }
}

on_both_engines! {
    async fn a_task_that_is_always_refused_does_not_keep_the_others_waiting(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|call| {
            if call.message().data.task_path == "refused" {
                Reply::status(503)
            } else {
                Reply::ok("1")
            }
        })
        .await;
        app.register(&executor).await;
        let first = TaskRequest { priority: Some(100), ..TaskRequest::new("refused") };
        let refused = app.enqueue_with(first).await.id;
        let other = app.enqueue("other").await.id;
        assert_eq!(app.end(other).await.status, TaskStatus::Successful);
        app.task_when(refused, |task| {
            task.deliveries > 0 && task.status == TaskStatus::Ready && task.attempts == 0
        }).await;
    }

    async fn an_executor_that_is_not_there_costs_no_attempt(app: App) {
        let app = app.start();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let placeholder = TestExecutor::start(|_| Reply::Close).await;
        app.register_as("exec", &placeholder, |r| r.url = Some(format!("http://{address}/"))).await;
        let id = app.enqueue("a.b").await.id;
        let task = app.task_when(id, |task| task.deliveries >= 3).await;
        assert!(task.attempts <= 1 && task.errors.is_empty());
        let listener = TcpListener::bind(address).await.unwrap();
        let executor = TestExecutor::on(listener, |_| Reply::ok("1"));
        let task = app.end(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
        assert_eq!(executor.calls()[0].message().data.attempt, 1);
        assert_eq!(app.client.get_executor("exec").await.unwrap().hold, None);
    }

    async fn b69_not_now_holds_the_whole_executor(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let busy = Arc::new(AtomicUsize::new(1));
        let executor = TestExecutor::start({
            let busy = busy.clone();
            move |_| match busy.load(Ordering::SeqCst) {
                0 => Reply::ok("1"),
                _ => Reply::Answer(429, "retry-after: 5\r\n", String::new()),
            }
        }).await;
        app.register_as("exec", &executor, |r| r.concurrency = Some(4)).await;
        let tasks = (0..200).map(|_| TaskRequest::new("a.b")).collect();
        let ids = app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids;
        app.task_when(ids[3], |task| task.deliveries == 1 && task.status == TaskStatus::Ready).await;
        let first = executor.calls().len();
        assert!(first <= 4, "{first} calls");
        let reasons = app.client.explain_task(ids[199]).await.unwrap().reasons;
        assert_eq!(reasons[0].code, ReasonCode::ExecutorHeld);
        clock.advance(4 * SECOND);
        app.client.get_readiness().await.unwrap();
        assert_eq!(executor.calls().len(), first, "nothing is sent before its time");
        clock.advance(SECOND);
        executor.called(first + 1).await;
        app.task_when(ids[0], |task| task.deliveries == 2 && task.status == TaskStatus::Ready).await;
        assert_eq!(executor.calls().len(), first + 1, "one probe");
        busy.store(0, Ordering::SeqCst);
        clock.advance(5 * SECOND);
        for id in ids {
            let task = app.end(id).await;
            assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
        }
    }

    async fn a_probe_does_not_wait_for_what_runs(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start({
            let refused = AtomicUsize::new(0);
            move |call| match call.message().data.task_path.as_str() {
                "long" => Reply::status(202),
                _ if refused.fetch_add(1, Ordering::SeqCst) == 0 => Reply::status(503),
                _ => Reply::ok("1"),
            }
        }).await;
        app.register(&executor).await;
        let long = app.enqueue("long").await.id;
        app.task_when(long, |task| task.status == TaskStatus::Running).await;
        let short = app.enqueue("short").await.id;
        app.task_when(short, |t| t.deliveries == 1 && t.status == TaskStatus::Ready).await;
        clock.advance(SECOND);
        assert_eq!(app.end(short).await.status, TaskStatus::Successful);
        assert_eq!(app.task(long).await.status, TaskStatus::Running);
    }

    async fn one_probe_goes_out_at_a_time(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start({
            let refused = AtomicUsize::new(0);
            move |_| match refused.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::status(503),
                _ => Reply::Hang,
            }
        }).await;
        let other = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register(&executor).await;
        app.register_as("other", &other, |r| r.task_paths = vec!["barrier".into()]).await;
        let id = app.enqueue("a.b").await.id;
        app.task_when(id, |t| t.deliveries == 1 && t.status == TaskStatus::Ready).await;
        clock.advance(SECOND);
        executor.called(2).await;
        for _ in 0..3 {
            app.enqueue("a.b").await;
            app.run_barrier().await;
        }
        assert_eq!(executor.calls().len(), 2);
        // One that does not answer does not keep the others back for ever.
        clock.advance(SECOND);
        executor.called(3).await;
        app.run_barrier().await;
        assert_eq!(executor.calls().len(), 3);
    }

    async fn b62_the_order_survives_being_held_back(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start({
            let count = AtomicUsize::new(0);
            move |_| match count.fetch_add(1, Ordering::SeqCst) {
                0..3 => Reply::Answer(503, "retry-after: 1\r\n", String::new()),
                _ => Reply::ok("1"),
            }
        }).await;
        app.register_as("exec", &executor, |r| r.concurrency = Some(1)).await;
        let tasks = (0..20).map(|n| TaskRequest { priority: Some(n % 2), ..TaskRequest::new(format!("t{n}")) });
        let ids = app.client.create_tasks(&TaskBatch { tasks: tasks.collect() }).await.unwrap().ids;
        for delivery in 1..=3 {
            app.task_when(ids[1], |t| t.deliveries == delivery && t.status == TaskStatus::Ready).await;
            clock.advance(SECOND);
        }
        for id in &ids {
            app.end(*id).await;
        }
        let paths: Vec<_> = executor.calls()[3..].iter().map(|c| c.message().data.task_path).collect();
        let expected: Vec<_> =
            (0..10).map(|n| format!("t{}", 2 * n + 1)).chain((0..10).map(|n| format!("t{}", 2 * n))).collect();
        assert_eq!(paths, expected);
    }

    async fn b86_an_executor_that_always_says_later_is_given_up(app: App) {
        let (mut app, clock) = app.with_manual_clock();
        app.config.deliveries_max = 3;
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::Answer(503, "retry-after: 0\r\n", String::new())).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        for delivery in 1..3 {
            app.task_when(id, |t| t.deliveries == delivery && t.status == TaskStatus::Ready).await;
            clock.advance(SECOND);
        }
        let task = app.end(id).await;
        assert_eq!((task.status, task.deliveries), (TaskStatus::Failed, 3));
        assert_eq!(task.errors[0].kind, TaskErrorKind::Unreachable);
        assert_eq!(executor.calls().len(), 3);
    }

    async fn an_executor_that_does_not_know_the_service_gets_its_tasks_later(app: App) {
        let app = app.start();
        for status in [401, 403] {
            let knows = Arc::new(AtomicUsize::new(0));
            let executor = TestExecutor::start({
                let knows = Arc::clone(&knows);
                move |_| match knows.load(Ordering::SeqCst) {
                    0 => Reply::status(status),
                    _ => Reply::ok("1"),
                }
            })
            .await;
            app.register(&executor).await;
            let once = TaskRequest { max_attempts: Some(1), ..at_once("a.b") };
            let id = app.enqueue_with(once).await.id;
            let held = until("a hold", || async {
                app.client.get_executor("exec").await.unwrap().hold
            })
            .await;
            let reason = format!("the executor answered {status}: it does not take the service's");
            assert!(held.reason.starts_with(&reason), "{held:?}");
            knows.store(1, Ordering::SeqCst);
            let task = app.end(id).await;
            assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1), "{status}");
        }
    }

    async fn b111_later_and_too_slow_are_not_the_end(app: App) {
        let app = app.start();
        let executor = TestExecutor::start({
            let count = AtomicUsize::new(0);
            move |_| match count.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::Answer(429, "retry-after: 0\r\n", String::new()),
                1 => Reply::status(408),
                _ => Reply::ok("1"),
            }
        }).await;
        app.register(&executor).await;
        let id = app.enqueue_with(at_once("a.b")).await.id;
        let task = app.end(id).await;
        assert_eq!(task.status, TaskStatus::Successful);
        assert_eq!((task.attempts, task.deliveries, executor.calls().len()), (2, 3, 3));
    }

    async fn b11_b109_a_dropped_connection_is_a_lost_attempt(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::Close).await;
        app.register(&executor).await;
        let id = app.enqueue_with(at_once("a.b")).await.id;
        let once = TaskRequest { max_attempts: Some(1), ..at_once("once") };
        let once = app.enqueue_with(once).await.id;
        let task = app.end(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Failed, 3));
        assert!(task.errors.iter().all(|error| error.kind == TaskErrorKind::Lost));
        app.end(once).await;
        let calls = executor.calls();
        let mut seen: Vec<_> = calls.iter().map(|call| {
            let data = call.message().data;
            (data.task_id == id, data.attempt, call.headers["webhook-id"].clone())
        }).collect();
        seen.sort();
        let attempts: Vec<_> = seen.iter().map(|(of_first, attempt, _)| (*of_first, *attempt)).collect();
        assert_eq!(attempts, [(false, 1), (true, 1), (true, 2), (true, 3)]);
        assert_eq!(seen[2].2, format!("{id}.2"), "each attempt has its own name");
    }

    async fn b113_heartbeats_get_through_when_there_is_much_to_do(app: App) {
        let app = app.start();
        let gate = Arc::new(Semaphore::new(0));
        let executor = TestExecutor::start({
            let gate = gate.clone();
            move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
        }).await;
        app.register_as("exec", &executor, |r| {
            r.task_paths = vec!["long".into()];
            r.lease_seconds = Some(1);
        }).await;
        let ids: Vec<_> = app.client.create_tasks(&TaskBatch {
            tasks: (0..10).map(|_| TaskRequest::new("long")).collect(),
        }).await.unwrap().ids;
        executor.called(10).await;
        // For more than a lease, as many requests as get through.
        let start = std::time::Instant::now();
        while start.elapsed() < 2 * SECOND {
            let posts = (0..200).map(|_| app.enqueue("elsewhere"));
            futures_util::future::join_all(posts).await;
        }
        gate.add_permits(10);
        for id in ids {
            let task = app.end(id).await;
            assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1), "{:?}", task.errors);
        }
    }

    async fn b23_b114_a_deploy_costs_no_attempt_and_runs_nothing_twice_at_once(app: App) {
        let mut app = app;
        app.config.shutdown_grace_seconds = 0;
        let app = app.start();
        let executor = TestExecutor::start({
            let count = AtomicUsize::new(0);
            move |_| if count.fetch_add(1, Ordering::SeqCst) < 2 { Reply::Hang } else { Reply::ok("1") }
        }).await;
        app.register(&executor).await;
        let many = app.enqueue_with(at_once("many")).await.id;
        let once = app.enqueue_with(TaskRequest { max_attempts: Some(1), ..at_once("once") }).await.id;
        executor.called(2).await;
        let app = app.stop().await.start();
        executor.hung_up(2).await;
        let task = app.end(many).await;
        assert_eq!(executor.most_at_once(), 2, "what was handed back had been cut off before");
        assert_eq!((task.status, task.attempts, task.deliveries), (TaskStatus::Successful, 1, 2));
        assert!(task.errors.is_empty());
        // But nobody knows how far it came, so what may be started once is not started again.
        let task = app.end(once).await;
        assert_eq!((task.status, task.errors[0].kind), (TaskStatus::Failed, TaskErrorKind::Lost));
        assert!(executor.calls().iter().filter(|call| call.is_cancel()).count() == 2, "both were told");
    }

    async fn c27_what_runs_is_waited_for(app: App) {
        let app = app.start();
        let gate = Arc::new(Semaphore::new(0));
        let executor = TestExecutor::start({
            let gate = gate.clone();
            move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
        }).await;
        app.register_as("exec", &executor, |r| r.concurrency = Some(1)).await;
        let runs = app.enqueue("a.b").await.id;
        let waits = app.enqueue("a.b").await.id;
        executor.called(1).await;
        gate.add_permits(1);
        let app = app.stop().await.start();
        let task = app.task(runs).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
        gate.add_permits(1);
        assert_eq!(app.end(waits).await.attempts, 1);
    }
}
