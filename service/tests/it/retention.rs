//! What has ended is deleted in time, and counted until then.

use std::time::Duration;

use futures_util::StreamExt;
use nightshift_client::types::{
    EndedCounts, ErrorReport, FinishRequest, PruneRequest, TaskBatch, TaskRequest, TaskStatus,
};
use uuid::Uuid;

use crate::support::{
    app::{TestApp, Worker, value},
    on_both_engines, until,
};

const DAY: Duration = Duration::from_hours(24);

fn once(path: &str) -> TaskRequest {
    TaskRequest { max_attempts: Some(1), ..TaskRequest::new(path) }
}

/// One task of each way to end, and one of each way not to have ended.
async fn one_of_each(app: &TestApp, worker: &Worker) -> [Uuid; 5] {
    let successful = app.enqueue_with(once("a")).await.id;
    worker.succeed(&worker.next().await).await;
    let failed = app.enqueue_with(once("a")).await.id;
    let error = Some(ErrorReport::default());
    let end = FinishRequest { error, ..FinishRequest::default() };
    worker.finish(&worker.next().await, end).await.unwrap();
    let running = TaskRequest { timeout_seconds: Some(600_000.0), ..once("a") };
    let running = app.enqueue_with(running).await.id;
    worker.next().await;
    let cancelled = app.enqueue_with(once("a")).await.id;
    app.client.cancel_task(cancelled, false).await.unwrap();
    let ready = app.enqueue_with(once("nobody.a")).await.id;
    [successful, failed, cancelled, running, ready]
}

async fn exists(app: &TestApp, ids: [Uuid; 5]) -> [bool; 5] {
    let mut there = [false; 5];
    for (there, id) in there.iter_mut().zip(ids) {
        *there = app.client.get_task(id, None).await.is_ok();
    }
    there
}

on_both_engines! {
    async fn c47_what_ended_goes_in_time_and_nothing_else_does(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        // A lease of an hour, renewed by nobody: the task fails within the first days.
        let worker = app
            .register_workers("tom", |request| {
                request.task_paths = vec!["a".to_owned()];
                request.lease_seconds = Some(3_600);
            })
            .await;
        let ids = one_of_each(&app, &worker).await;
        clock.advance(6 * DAY);
        app.task_when(ids[3], |task| task.status == TaskStatus::Failed).await;
        assert_eq!(exists(&app, ids).await, [true; 5]);
        clock.advance(DAY);
        until("pruning", || async { app.client.get_task(ids[2], None).await.err() }).await;
        assert_eq!(exists(&app, ids).await, [false, true, false, true, true]);
        clock.advance(23 * DAY);
        until("pruning", || async { app.client.get_task(ids[1], None).await.err() }).await;
        assert_eq!(exists(&app, ids).await, [false, false, false, true, true]);
        clock.advance(7 * DAY);
        until("pruning", || async { app.client.get_task(ids[3], None).await.err() }).await;
        assert_eq!(exists(&app, ids).await, [false, false, false, false, true]);
        assert_eq!(app.task(ids[4]).await.status, TaskStatus::Ready, "it waits as long as it must");
    }

    async fn c47_pruning_by_hand_tells_first_what_it_would_do(app: App) {
        let app = app.start();
        let worker = app
            .register_workers("tom", |request| request.task_paths = vec!["a".to_owned()])
            .await;
        let ids = one_of_each(&app, &worker).await;
        let everything = EndedCounts { successful: 1, failed: 1, cancelled: 1 };
        let now = PruneRequest {
            dry_run: true,
            retention_seconds: Some(0),
            retention_failed_seconds: Some(0),
        };
        let would = app.client.prune_tasks(&now).await.unwrap();
        assert_eq!((would.tasks, would.remaining), (everything, false));
        assert_eq!(exists(&app, ids).await, [true; 5]);
        let by_default = app.client.prune_tasks(&PruneRequest::default()).await.unwrap();
        assert_eq!(by_default.tasks, EndedCounts::default());
        let now = PruneRequest { dry_run: false, ..now };
        assert_eq!(app.client.prune_tasks(&now).await.unwrap().tasks, everything);
        assert_eq!(exists(&app, ids).await, [false, false, false, true, true]);
        for body in [r#"{"retention_seconds":-1}"#, r#"{"retention_seconds":1e10}"#] {
            let answer = app.post("/prune", body).await;
            assert_eq!(answer.problem(), "422 invalid_field /retention_seconds");
        }
    }

    async fn b77_much_is_pruned_in_steps_between_which_others_get_on(app: App) {
        const TASKS: usize = 11_000;
        let app = app.start();
        let ids = futures_util::future::join_all((0..TASKS / 1_000).map(|_| async {
            let tasks = (0..1_000).map(|_| TaskRequest::new("a.b")).collect();
            app.client.create_tasks(&TaskBatch { tasks }).await.unwrap().ids
        }))
        .await;
        let cancelling = ids.iter().flatten().map(|id| app.store().cancel(
            nightshift::store::CancelRequest {
                id: nightshift::domain::task::TaskId(*id),
                force: false,
            },
            nightshift::store::Note {
                actor: nightshift::domain::token::Actor { name: "test".into(), address: None },
                action: "cancel_task",
                object: id.to_string(),
            },
        ));
        let mut cancelling = futures_util::stream::iter(cancelling).buffer_unordered(1_000);
        while let Some(cancelled) = cancelling.next().await {
            cancelled.unwrap();
        }
        let now = PruneRequest { retention_seconds: Some(0), ..PruneRequest::default() };
        let first = app.client.prune_tasks(&now).await.unwrap();
        assert_eq!((first.tasks.cancelled, first.remaining), (10_000, true));
        let rest = app.client.prune_tasks(&now).await.unwrap();
        assert_eq!((rest.tasks.cancelled, rest.remaining), (1_000, false));
        assert_eq!(app.count().await, 0);
    }

    async fn b99_stats_count_what_there_is(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let worker = app
            .register_workers("tom", |request| {
                request.task_paths = vec!["a".to_owned()];
                request.lease_seconds = Some(3_600);
            })
            .await;
        one_of_each(&app, &worker).await;
        clock.advance(Duration::from_mins(2));
        app.enqueue_with(once("a")).await;
        worker.finish(&worker.next().await, value("1")).await.unwrap();
        let later = TaskRequest {
            run_after: Some("2027-01-01T00:00:00Z".parse().unwrap()),
            ..once("a")
        };
        app.enqueue_with(later).await;
        let stats = app.client.get_stats().await.unwrap();
        assert_eq!((stats.due, stats.unrouted, stats.scheduled, stats.running), (1, 1, 1, 1));
        assert_eq!(stats.ended, EndedCounts { successful: 2, failed: 1, cancelled: 1 });
        assert_eq!(stats.ended_last_hour, stats.ended);
        let minute = EndedCounts { successful: 1, ..EndedCounts::default() };
        assert_eq!(stats.ended_last_minute, minute);
        assert_eq!(stats.queues.len(), 1);
        assert_eq!((stats.queues[0].depth, stats.queues[0].in_flight), (1, 1));
    }
}

/// What pruning makes free goes back to the file system.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b78_the_file_shrinks_again() {
    let builder = crate::support::app::Builder::sqlite();
    let file = builder.config.database_url.trim_start_matches("sqlite://").to_owned();
    let app = builder.start();
    let args = Some(format!("[\"{}\"]", "x".repeat(100_000)).parse().unwrap());
    for _ in 0..100 {
        let task = app.enqueue_with(TaskRequest { args: args.clone(), ..once("a") }).await;
        app.client.cancel_task(task.id, false).await.unwrap();
    }
    let app = app.stop().await.start();
    let full = std::fs::metadata(&file).unwrap().len();
    let now = PruneRequest { retention_seconds: Some(0), ..PruneRequest::default() };
    assert_eq!(app.client.prune_tasks(&now).await.unwrap().tasks.cancelled, 100);
    // Closing writes the log back into the file.
    let _builder = app.stop().await;
    let empty = std::fs::metadata(&file).unwrap().len();
    assert!(empty < full / 2, "{full} -> {empty}");
}
