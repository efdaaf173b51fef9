//! Everything that would grow with each use is bounded, and says so.

use nightshift_client::types::{
    ErrorCode, ErrorReport, ExecutorKind, ExecutorRequest, FinishRequest, QueueChange, Task,
    TaskBatch, TaskRequest, TaskStatus,
};

use crate::support::{
    app::{TestApp, Worker},
    database::execute,
    on_both_engines,
};

/// Lets the only attempt of a task fail with a traceback of so many bytes, and retries it by hand.
async fn fail(app: &TestApp, worker: &Worker, number: usize, bytes: usize) -> Task {
    let lease = worker.next().await;
    let error = ErrorReport {
        message: Some(number.to_string()),
        traceback: Some("t".repeat(bytes)),
        retryable: Some(false),
        ..ErrorReport::default()
    };
    worker
        .finish(&lease, FinishRequest { error: Some(error), ..FinishRequest::default() })
        .await
        .unwrap();
    app.client.retry_task(lease.task.id).await.unwrap()
}

fn worker_request(task_paths: Vec<String>) -> ExecutorRequest {
    ExecutorRequest { kind: ExecutorKind::Worker, task_paths, ..ExecutorRequest::default() }
}

on_both_engines! {
    async fn errors_of_one_task_are_bounded_by_their_number(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let id = app.enqueue("a.b").await.id;
        for number in 0..103 {
            fail(&app, &worker, number, 0).await;
        }
        let task = app.task(id).await;
        assert_eq!((task.errors.len(), task.errors_dropped), (100, 3));
        assert_eq!(task.errors[0].message, "3");
        assert_eq!(task.errors[99].message, "102");
        assert_eq!((task.attempts, task.worker_ids.len()), (103, 100));
        let result = app.client.cancel_task(id, false).await.unwrap();
        assert_eq!((result.errors.len(), result.errors_dropped), (100, 4));
    }

    async fn errors_of_one_task_are_bounded_by_their_bytes(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let id = app.enqueue("a.b").await.id;
        let other = app.enqueue_with(TaskRequest { priority: Some(-1), ..TaskRequest::new("c.d") });
        let other = other.await.id;
        for number in 0..20 {
            fail(&app, &worker, number, 64 * 1024).await;
        }
        let task = app.task(id).await;
        // Each has a message of one or two bytes beside its traceback.
        assert_eq!((task.errors.len(), task.errors_dropped), (15, 5));
        assert_eq!(task.errors[14].message, "19");
        assert_eq!(app.task(other).await.errors_dropped, 0);
    }

    async fn executors_and_their_task_paths_are_bounded(app: App) {
        let app = app.start();
        for number in 0..10 {
            let paths = (0..1_000).map(|path| format!("t{number}.p{path}")).collect();
            let name = format!("full{number}");
            app.client.put_executor(&name, &worker_request(paths)).await.unwrap();
        }
        let one_more = worker_request(vec!["one.more".to_owned()]);
        let refused = app.client.put_executor("more", &one_more).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::LimitReached));
        assert!(refused.to_string().contains("10000 task paths"), "{refused}");
        // One that is registered may be registered otherwise.
        app.client.put_executor("full0", &one_more).await.unwrap();
        app.client.put_executor("more", &one_more).await.unwrap();
        assert!(app.client.delete_executor("more").await.is_ok());
        // The same with very many that serve one path each.
        let url = app.database_url();
        let app = app.stop().await;
        execute(&url, "DELETE FROM executors");
        execute(&url, "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 999) \
            INSERT INTO executors (name, kind, task_paths, concurrency, lease_us, paused, created_at, updated_at) \
            SELECT 'e' || n, 1, '[\"p' || n || '\"]', 0, 30000000, FALSE, 1, 1 FROM many");
        let app = app.start();
        app.client.put_executor("last", &one_more).await.unwrap();
        let refused = app.client.put_executor("more", &one_more).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::LimitReached));
        assert!(refused.to_string().contains("1000 executors"), "{refused}");
        app.client.put_executor("e7", &one_more).await.unwrap();
        app.client.delete_executor("e8").await.unwrap();
        app.client.put_executor("more", &one_more).await.unwrap();
        // And each still gets what is its own.
        let task = app.enqueue("p9").await;
        assert_eq!(task.executor.as_deref(), Some("e9"));
    }

    async fn queues_that_are_set_are_bounded(app: App) {
        let app = app.start();
        let url = app.database_url();
        let app = app.stop().await;
        execute(&url, "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 1000) \
            INSERT INTO queues (name, paused, concurrency, updated_at) \
            SELECT 'q' || n, n % 2 = 0, CASE WHEN n % 2 = 0 THEN NULL ELSE 1 END, 1 FROM many");
        let app = app.start();
        let pause = |paused| QueueChange { paused: Some(paused), ..QueueChange::default() };
        let refused = app.client.update_queue("more", &pause(true)).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::LimitReached));
        app.client.update_queue("q1", &pause(true)).await.unwrap();
        app.client.update_queue("q2", &pause(false)).await.unwrap();
        app.client.update_queue("more", &pause(true)).await.unwrap();
        // All of them are obeyed.
        let worker = app.register_workers("tom", |_| {}).await;
        let tasks = ["q2", "q3", "q3", "q4", "more", "free"].map(|queue| TaskRequest {
            queue_name: Some(queue.to_owned()),
            ..TaskRequest::new(queue)
        });
        app.client.create_tasks(&TaskBatch { tasks: tasks.to_vec() }).await.unwrap();
        let leases = worker.lease(10).await;
        let started: Vec<&str> = leases.iter().map(|lease| lease.task.task_path.as_str()).collect();
        assert_eq!(started, ["q2", "q3", "free"]);
    }

    async fn the_order_holds_across_more_queues_than_anybody_counts(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let mut tasks: Vec<TaskRequest> = (0..9_999)
            .map(|number| TaskRequest {
                queue_name: Some(format!("q{number:05}")),
                priority: Some(-100),
                ..TaskRequest::new("low")
            })
            .collect();
        tasks.push(TaskRequest { queue_name: Some("x".to_owned()), ..TaskRequest::new("middle") });
        // One batch of all would take a slow machine too long.
        for tasks in tasks.chunks(1_000) {
            app.client.create_tasks(&TaskBatch { tasks: tasks.to_vec() }).await.unwrap();
        }
        let high = TaskRequest {
            queue_name: Some("z".to_owned()),
            priority: Some(100),
            ..TaskRequest::new("high")
        };
        app.enqueue_with(high).await;
        let leases = worker.lease(4).await;
        let started: Vec<&str> = leases.iter().map(|lease| lease.task.task_path.as_str()).collect();
        assert_eq!(started, ["high", "middle", "low", "low"]);
        assert_eq!(leases[3].task.queue_name, "q00001");
        assert_eq!(app.task(leases[0].task.id).await.status, TaskStatus::Running);
    }
}
