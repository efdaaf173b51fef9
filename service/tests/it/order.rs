//! Who is next, and who serves whom.

use nightshift_client::types::{QueueChange, ReasonCode, TaskBatch, TaskRequest, TaskStatus};

use crate::support::{
    executor::{Call, Reply, TestExecutor},
    on_both_engines,
};

fn paths(calls: &[Call]) -> Vec<String> {
    calls.iter().map(|call| call.message().data.task_path).collect()
}

on_both_engines! {
    async fn c20_b63_priority_then_due_time_then_order_of_enqueuing(app: App) {
        let (app, _clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| { r.paused = true; r.concurrency = Some(1); }).await;
        let with = |path: &str, priority, run_after: Option<&str>| TaskRequest {
            priority: Some(priority),
            run_after: run_after.map(|time| time.parse().unwrap()),
            ..TaskRequest::new(path)
        };
        let past = Some("2026-11-25T11:00:00Z");
        for request in [
            with("p-100", -100, None), with("p-5", -5, None), with("p0-first", 0, None),
            with("p0-second", 0, None), with("p0-due", 0, past), with("p5", 5, None),
            with("p100-future", 100, Some("2026-11-26T12:00:00Z")), with("p100", 100, None),
        ] {
            app.enqueue_with(request).await;
        }
        app.register_as("exec", &executor, |r| r.concurrency = Some(1)).await;
        let calls = executor.called(7).await;
        let expected = ["p100", "p5", "p0-due", "p0-first", "p0-second", "p-5", "p-100"];
        assert_eq!(paths(&calls), expected);
    }

    async fn c21_equals_run_in_the_order_of_enqueuing(app: App) {
        // The clock stands still: all share one timestamp.
        let (app, _clock) = app.with_manual_clock();
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| { r.paused = true; r.concurrency = Some(1); }).await;
        let mut expected = Vec::new();
        for n in 0..50 {
            expected.push(format!("single-{n}"));
            app.enqueue(&format!("single-{n}")).await;
        }
        let tasks: Vec<_> = (0..50).map(|n| TaskRequest::new(format!("batch-{n}"))).collect();
        expected.extend(tasks.iter().map(|task| task.task_path.clone()));
        app.client.create_tasks(&TaskBatch { tasks }).await.unwrap();
        app.register_as("exec", &executor, |r| r.concurrency = Some(1)).await;
        assert_eq!(paths(&executor.called(100).await), expected);
    }

    async fn c20_the_order_holds_across_queues_with_and_without_settings(app: App) {
        let (app, _clock) = app.with_manual_clock();
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let one = QueueChange { concurrency: Some(Some(1)), ..QueueChange::default() };
        app.client.update_queue("one", &one).await.unwrap();
        let paused = QueueChange { paused: Some(true), ..QueueChange::default() };
        app.client.update_queue("paused", &paused).await.unwrap();
        let task = |path: &str, queue: &str, priority| TaskRequest {
            queue_name: Some(queue.to_owned()),
            priority: Some(priority),
            ..TaskRequest::new(path)
        };
        let mut tasks: Vec<_> = (0..30).map(|_| task("never", "paused", 7)).collect();
        tasks.extend([
            task("g", "free", -7), task("b", "one", 3), task("h", "one", 3), task("c", "free", 2),
            task("a", "other", 5), task("e", "free", 0), task("f", "other", 0), task("d", "free", 1),
        ]);
        app.client.create_tasks(&TaskBatch { tasks }).await.unwrap();
        let started = async |max: i64, only: Option<&str>| {
            let leases = worker.ask(|request| {
                request.max_tasks = Some(max);
                request.queue_names = only.map(|name| vec![name.to_owned()]);
            });
            leases.await.into_iter().map(|lease| lease.task.task_path).collect::<Vec<_>>()
        };
        assert_eq!(started(2, None).await, ["a", "b"]);
        assert_eq!(started(1, Some("other")).await, ["f"]);
        assert_eq!(started(3, None).await, ["c", "d", "e"]);
        assert_eq!(started(9, None).await, ["g"], "one is full, the other is paused");
        let free = QueueChange { concurrency: Some(None), ..QueueChange::default() };
        app.client.update_queue("one", &free).await.unwrap();
        assert_eq!(started(9, None).await, ["h"]);
        let resumed = QueueChange { paused: Some(false), ..QueueChange::default() };
        app.client.update_queue("paused", &resumed).await.unwrap();
        assert_eq!(started(40, None).await.len(), 30);
    }

    async fn c23_each_task_is_claimed_once(app: App) {
        let app = app.start();
        let executors = [
            TestExecutor::start(|_| Reply::ok("1")).await,
            TestExecutor::start(|_| Reply::ok("2")).await,
        ];
        app.register_as("odd", &executors[0], |r| r.task_paths = vec!["odd.*".into()]).await;
        app.register_as("even", &executors[1], |r| r.task_paths = vec!["even.*".into()]).await;
        let tasks = (0..400).map(|n| {
            TaskRequest::new(format!("{}.{n}", if n % 2 == 0 { "even" } else { "odd" }))
        });
        let ids = app.client.create_tasks(&TaskBatch { tasks: tasks.collect() }).await.unwrap().ids;
        for id in ids {
            let task = app.end(id).await;
            assert_eq!((task.status, task.worker_ids.len()), (TaskStatus::Successful, 1));
        }
        let mut called: Vec<_> = executors.iter().flat_map(|e| paths(&e.calls())).collect();
        called.sort();
        called.dedup();
        assert_eq!(called.len(), 400);
        assert!(executors.iter().all(|executor| executor.calls().len() == 200));
    }

    async fn the_most_specific_executor_gets_the_task(app: App) {
        let app = app.start();
        let all = TestExecutor::start(|_| Reply::ok("\"all\"")).await;
        let some = TestExecutor::start(|_| Reply::ok("\"some\"")).await;
        app.register_as("all", &all, |r| r.paused = true).await;
        let waiting = app.enqueue("my.tasks.mail").await;
        assert_eq!(waiting.executor.as_deref(), Some("all"));
        // Also what waits already goes to an executor that is closer.
        app.register_as("some", &some, |r| r.task_paths = vec!["my.tasks.*".into()]).await;
        assert_eq!(app.end(waiting.id).await.return_value.unwrap().as_str(), "\"some\"");
        // And back, when that one is gone.
        app.register_as("some", &some, |r| {
            r.task_paths = vec!["my.tasks.*".into()];
            r.paused = true;
        }).await;
        let waiting = app.enqueue("my.tasks.mail").await.id;
        app.register_as("all", &all, |_| {}).await;
        app.client.delete_executor("some").await.unwrap();
        assert_eq!(app.end(waiting).await.return_value.unwrap().as_str(), "\"all\"");
    }

    async fn an_unrouted_task_starts_when_its_executor_comes(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let tasks = (0..50).map(|n| TaskRequest::new(format!("late.{n}"))).collect();
        let ids = app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids;
        assert_eq!(app.task(ids[0]).await.executor, None);
        app.register_as("exec", &executor, |r| r.task_paths = vec!["late.*".into()]).await;
        for id in ids {
            assert_eq!(app.end(id).await.status, TaskStatus::Successful);
        }
    }

    async fn b65_a_batch_starts_as_many_as_there_is_room_for(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::Hang).await;
        let other = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.concurrency = Some(50)).await;
        app.register_as("other", &other, |r| r.task_paths = vec!["barrier".into()]).await;
        let tasks = (0..100).map(|_| TaskRequest::new("a.b")).collect();
        let ids = app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids;
        executor.called(50).await;
        let reasons = app.client.explain_task(ids[99]).await.unwrap().reasons;
        let codes: Vec<_> = reasons.iter().map(|reason| reason.code).collect();
        assert_eq!(codes, [ReasonCode::ExecutorFull, ReasonCode::BehindOthers]);
        assert_eq!((reasons[0].count, reasons[1].count), (Some(50), Some(49)));
        // However often there is something to claim, it gets no more.
        for _ in 0..3 {
            app.run_barrier().await;
        }
        assert_eq!(executor.most_at_once(), 50);
    }

    async fn attempts_that_end_at_once_make_room_for_the_next(app: App) {
        let mut app = app;
        app.config.attempts_max = 2;
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register(&executor).await;
        let tasks = (0..500).map(|_| TaskRequest::new("a.b")).collect();
        for id in app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids {
            app.end(id).await;
        }
        assert!(executor.most_at_once() <= 2);
    }

    async fn explain_says_that_the_process_makes_no_more_attempts(app: App) {
        let mut app = app;
        app.config.attempts_max = 1;
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::Hang).await;
        app.register(&executor).await;
        app.enqueue("a.b").await;
        executor.called(1).await;
        let id = app.enqueue("a.b").await.id;
        let reasons = app.client.explain_task(id).await.unwrap().reasons;
        assert_eq!(reasons[0].code, ReasonCode::ProcessFull, "{reasons:?}");
        assert!(reasons[0].detail.contains("attempts_max"), "{reasons:?}");
        // A worker asks by itself, so that the process needs nothing for it.
        let worker = app
            .register_workers("workers", |request| request.task_paths = vec!["w".into()])
            .await;
        assert!(worker.lease(1).await.is_empty());
        let id = app.enqueue("w").await.id;
        let reasons = app.client.explain_task(id).await.unwrap().reasons;
        assert_eq!(reasons[0].code, ReasonCode::AboutToStart, "{reasons:?}");
    }

    async fn explain_names_a_paused_executor(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.paused = true).await;
        let id = app.enqueue("a.b").await.id;
        let reasons = app.client.explain_task(id).await.unwrap().reasons;
        assert_eq!(reasons[0].code, ReasonCode::ExecutorPaused);
        assert_eq!(reasons[0].executor.as_deref(), Some("exec"));
    }
}
