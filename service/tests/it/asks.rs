//! A task that waits for a worker says so, and when one has asked last.

use std::time::Duration;

use nightshift_client::types::{LeaseRequest, QueueChange, Reason, ReasonCode, TaskRequest};

use crate::support::{
    app::{Builder, TestApp, Worker},
    on_both_engines, soon, until,
};

/// The first reason why a task of this queue waits.
async fn reason(app: &TestApp, queue_name: &str) -> Reason {
    let task = TaskRequest { queue_name: Some(queue_name.to_owned()), ..TaskRequest::new("a.b") };
    let id = app.enqueue_with(task).await.id;
    let reason = app.client.explain_task(id).await.unwrap().reasons.swap_remove(0);
    app.client.cancel_task(id, false).await.unwrap();
    reason
}

async fn ask_for(worker: &Worker, queue_name: &str) {
    let names = vec![queue_name.to_owned()];
    assert!(worker.ask(|request| request.queue_names = Some(names)).await.is_empty());
}

on_both_engines! {
    async fn a_task_says_that_no_worker_asks_for_its_queue(app: App) {
        let (builder, clock) = app.with_manual_clock();
        let app = builder.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let none = reason(&app, "default").await;
        assert_eq!((none.code, none.executor.as_deref()), (ReasonCode::NoWorker, Some("tom")));
        assert_eq!(none.detail, "no worker has asked for tasks of the queue default");
        // Of other queues only.
        ask_for(&worker, "mail").await;
        let but = |request: &mut LeaseRequest| {
            request.exclude_queue_names = Some(vec!["default".to_owned()]);
        };
        assert!(worker.ask(but).await.is_empty());
        assert_eq!(reason(&app, "default").await.code, ReasonCode::NoWorker);
        assert_eq!(reason(&app, "mail").await.code, ReasonCode::AboutToStart);
        assert!(worker.lease(1).await.is_empty());
        assert_eq!(reason(&app, "default").await.code, ReasonCode::AboutToStart);
        clock.advance(Duration::from_mins(2));
        let gone = reason(&app, "default").await;
        assert_eq!((gone.code, gone.count), (ReasonCode::NoWorker, Some(0)));
        assert!(gone.detail.contains("the queue default since 20"), "{}", gone.detail);
        // The process after it knows that, too.
        let app = app.stop().await.start();
        assert_eq!(reason(&app, "default").await.detail, gone.detail);
    }

    async fn a_task_behind_busy_workers_says_so(app: App) {
        let (builder, clock) = app.with_manual_clock();
        let app = builder.start();
        let worker = app.register_workers("tom", |r| r.lease_seconds = Some(3_600)).await;
        app.enqueue("a.b").await;
        assert_eq!(worker.lease(1).await.len(), 1);
        assert_eq!(reason(&app, "default").await.code, ReasonCode::AboutToStart);
        clock.advance(Duration::from_mins(2));
        let busy = reason(&app, "default").await;
        assert_eq!((busy.code, busy.count), (ReasonCode::NoWorker, Some(1)));
        assert!(busy.detail.ends_with("1 tasks of its executor run, so its workers may be busy"));
    }

    async fn a_worker_that_waits_asks_until_it_is_answered(app: App) {
        let (builder, clock) = app.with_manual_clock();
        let app = builder.start();
        let worker = app.register_workers("tom", |_| {}).await;
        // So that it gets nothing.
        let pause = QueueChange { paused: Some(true), ..QueueChange::default() };
        app.client.update_queue("default", &pause).await.unwrap();
        let id = app.enqueue("a.b").await.id;
        let codes = || async {
            let reasons = app.client.explain_task(id).await.unwrap().reasons;
            reasons.iter().map(|reason| reason.code).collect::<Vec<_>>()
        };
        assert_eq!(codes().await, [ReasonCode::QueuePaused, ReasonCode::NoWorker]);
        let waiting = tokio::spawn({
            let worker = worker.clone();
            async move { worker.ask(|request| request.wait_seconds = Some(50)).await }
        });
        until("a worker that asks", || async {
            (codes().await == [ReasonCode::QueuePaused]).then_some(())
        })
        .await;
        clock.advance(Duration::from_secs(50));
        assert!(soon("its answer", waiting).await.unwrap().is_empty());
        clock.advance(Duration::from_mins(1));
        assert_eq!(codes().await, [ReasonCode::QueuePaused]);
        clock.advance(Duration::from_mins(1));
        assert_eq!(codes().await, [ReasonCode::QueuePaused, ReasonCode::NoWorker]);
    }

    async fn of_many_sets_of_queues_the_last_are_known(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        for number in 0..150 {
            ask_for(&worker, &format!("q{number}")).await;
        }
        let app = app.stop().await.start();
        assert_eq!(reason(&app, "q149").await.code, ReasonCode::AboutToStart);
        assert_eq!(reason(&app, "q0").await.code, ReasonCode::NoWorker);
    }

    async fn a_removed_executor_takes_its_asks_along(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        assert!(worker.lease(1).await.is_empty());
        let app = app.stop().await.start();
        app.client.delete_executor("tom").await.unwrap();
        app.register_workers("tom", |_| {}).await;
        assert_eq!(reason(&app, "default").await.code, ReasonCode::NoWorker);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_processes_know_who_asks() {
    let first = Builder::postgres().start();
    let second = first.replica(|_| {});
    let worker = first.register_workers("tom", |_| {}).await;
    assert!(worker.lease(1).await.is_empty());
    until("the other process to know", || async {
        (reason(&second, "default").await.code == ReasonCode::AboutToStart).then_some(())
    })
    .await;
}
