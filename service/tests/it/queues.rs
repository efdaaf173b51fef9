//! Queues: what lies in them, pausing and limiting them.

use std::time::Duration;

use nightshift_client::types::{
    ErrorCode, Queue, QueueChange, ReasonCode, TaskRequest, TaskStatus,
};

use crate::support::{
    app::{TestApp, value},
    executor::{Reply, TestExecutor},
    on_both_engines, soon,
};

fn in_queue(task_path: &str, queue_name: &str) -> TaskRequest {
    TaskRequest { queue_name: Some(queue_name.to_owned()), ..TaskRequest::new(task_path) }
}

async fn pause(app: &TestApp, name: &str, paused: bool) -> Queue {
    let change = QueueChange { paused: Some(paused), ..QueueChange::default() };
    app.client.update_queue(name, &change).await.unwrap()
}

async fn limit(app: &TestApp, name: &str, concurrency: Option<i64>) -> Queue {
    let change = QueueChange { concurrency: Some(concurrency), ..QueueChange::default() };
    app.client.update_queue(name, &change).await.unwrap()
}

on_both_engines! {
    async fn a_paused_queue_waits_and_holds_up_no_other(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        pause(&app, "slow", true).await;
        let paused = app.enqueue_with(in_queue("a.slow", "slow")).await.id;
        app.enqueue_with(in_queue("a.quick", "quick")).await;
        let leases = worker.lease(10).await;
        assert_eq!(leases.len(), 1);
        assert_eq!(leases[0].task.task_path, "a.quick");
        let reasons = app.client.explain_task(paused).await.unwrap().reasons;
        assert_eq!(reasons[0].code, ReasonCode::QueuePaused);
        let waiting = worker.ask(|request| request.wait_seconds = Some(60));
        let resumed = pause(&app, "slow", false);
        let (leases, queue) = soon("the task", Box::pin(async { tokio::join!(waiting, resumed) })).await;
        assert_eq!(leases[0].task.id, paused);
        assert!(!queue.paused);
    }

    async fn b67_a_limited_queue_runs_so_many_over_all_executors(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(202)).await;
        app.register_as("called", &executor, |request| request.task_paths = vec!["c.*".to_owned()])
            .await;
        let worker = app.register_workers("tom", |_| {}).await;
        limit(&app, "one", Some(2)).await;
        app.enqueue_with(in_queue("c.a", "one")).await;
        let call = executor.called(1).await[0].message();
        for _ in 0..3 {
            app.enqueue_with(in_queue("w.a", "one")).await;
        }
        let leases = worker.lease(10).await;
        assert_eq!(leases.len(), 1, "one of two places is taken by the call");
        assert_eq!(worker.lease(10).await, []);
        let waits = app.enqueue_with(in_queue("w.b", "one")).await.id;
        let reasons = app.client.explain_task(waits).await.unwrap().reasons;
        assert_eq!((reasons[0].code, reasons[0].count), (ReasonCode::QueueFull, Some(2)));
        let told = &reasons[0].detail;
        assert!(told.contains(&leases[0].task.id.to_string()), "{told}");
        // The end of the call makes room for a worker.
        let waiting = worker.ask(|request| {
            request.wait_seconds = Some(60);
            request.max_tasks = Some(10);
        });
        let value = value("1");
        let end = app.client.finish_lease(&call.data.lease.token, &value);
        let (next, ended) = soon("room", async { tokio::join!(waiting, end) }).await;
        assert_eq!((next.len(), ended.unwrap().status), (1, TaskStatus::Successful));
        assert_eq!(limit(&app, "one", None).await.concurrency, None);
        assert_eq!(worker.lease(10).await.len(), 2);
    }

    async fn queues_show_what_lies_in_them(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let worker = app.register_workers("tom", |request| request.lease_seconds = Some(300)).await;
        for _ in 0..3 {
            app.enqueue_with(in_queue("a", "b-queue")).await;
        }
        let later = TaskRequest {
            run_after: Some("2026-11-25T13:00:00Z".parse().unwrap()),
            ..in_queue("a", "b-queue")
        };
        app.enqueue_with(later).await;
        limit(&app, "a-queue", Some(7)).await;
        let lease = worker.next().await;
        clock.advance(Duration::from_mins(1));
        let list = app.client.list_queues(None, None).await.unwrap();
        let [a, b] = list.items.as_slice() else { panic!("{list:?}") };
        assert_eq!((a.name.as_str(), a.concurrency, a.depth), ("a-queue", Some(7), 0));
        assert_eq!((a.oldest_due_at, a.oldest_age_seconds), (None, None));
        assert_eq!((b.name.as_str(), b.depth, b.scheduled, b.in_flight), ("b-queue", 2, 1, 1));
        assert_eq!((b.paused, b.oldest_age_seconds), (false, Some(60.0)));
        worker.succeed(&lease).await;
        let b = app.client.get_queue("b-queue").await.unwrap();
        assert_eq!((b.depth, b.in_flight), (2, 0));
        let none = app.client.get_queue("none").await.unwrap();
        assert_eq!((none.depth, none.paused), (0, false));
        let page = app.client.list_queues(None, Some(1)).await.unwrap();
        assert_eq!(page.items[0].name, "a-queue");
        let page = app.client.list_queues(page.next_cursor.as_deref(), Some(1)).await.unwrap();
        assert_eq!((page.items[0].name.as_str(), page.next_cursor), ("b-queue", None));
    }

    async fn settings_survive_a_restart(app: App) {
        let app = app.start();
        pause(&app, "q", true).await;
        limit(&app, "q", Some(3)).await;
        let app = app.stop().await.start();
        let queue = app.client.get_queue("q").await.unwrap();
        assert_eq!((queue.paused, queue.concurrency), (true, Some(3)));
    }

    async fn bad_changes_are_refused(app: App) {
        let app = app.start();
        for (body, problem) in [
            (r#"{"paused":1}"#, "422 invalid_field /paused"),
            (r#"{"concurrency":0}"#, "422 invalid_field /concurrency"),
            (r#"{"concurrency":10001}"#, "422 invalid_field /concurrency"),
            (r#"{"concurrency":1.5}"#, "422 invalid_field /concurrency"),
            (r#"{"rate":1}"#, "422 invalid_field /rate"),
        ] {
            let request = app.request("PATCH", "/queues/q").body(body);
            let answer = app.send(request.header("content-type", "application/json")).await;
            assert_eq!(answer.problem(), problem, "{body}");
        }
        let refused = app.client.get_queue("a b").await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::QueueNotFound));
        let odd = app.client.get_queue("a/b%2f?").await.unwrap();
        assert_eq!(odd.name, "a/b%2f?");
    }
}
