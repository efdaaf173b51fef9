//! Saying it twice.

use nightshift_client::{
    EnqueueOptions,
    types::{ErrorCode, TaskBatch, TaskRequest, TaskStatus},
};
use uuid::Uuid;

use crate::support::{
    app::json,
    executor::{Reply, TestExecutor},
    on_both_engines,
};

const ID: Uuid = Uuid::from_u128(0x1234);

fn with_id(args: &str) -> TaskRequest {
    TaskRequest { id: Some(ID), args: json(args), ..TaskRequest::new("a.b") }
}

fn unique() -> TaskRequest {
    TaskRequest { unique_key: Some("night-1".into()), ..TaskRequest::new("a.b") }
}

on_both_engines! {
    async fn c35_the_same_id_is_the_same_task(app: App) {
        let app = app.start();
        let options = EnqueueOptions::default();
        let first = app.client.create_task(&with_id("[1]"), &options).await.unwrap();
        let second = app.client.create_task(&with_id("[1]"), &options).await.unwrap();
        assert_eq!((first.created, second.created), (true, false));
        assert_eq!(first.task, second.task);
        let other = app.client.create_task(&with_id("[2]"), &options).await.unwrap_err();
        assert_eq!(other.code(), Some(ErrorCode::IdConflict));
        assert_eq!(app.count().await, 1);
    }

    async fn b73_an_idempotency_key_is_bound_to_its_content(app: App) {
        let app = app.start();
        let post = |key: &'static str, body: &'static str| {
            let request = app.request("POST", "/tasks").header("idempotency-key", key);
            app.send(request.header("content-type", "application/json").body(body))
        };
        let first = post("\"k-1\"", r#"{"task_path":"a"}"#).await;
        let again = post("k-1", r#"{ "task_path" : "a" }"#).await;
        assert_eq!((first.status, again.status), (201, 200));
        assert_eq!(first.json()["id"], again.json()["id"]);
        assert_eq!(first.header("location"), again.header("location"));
        assert_eq!(post("k-1", r#"{"task_path":"b"}"#).await.problem(), "422 idempotency_mismatch -");
        assert_eq!(post("k-2", r#"{"task_path":"a"}"#).await.status, 201);
        assert_eq!(post("\"\"", r#"{"task_path":"a"}"#).await.problem(), "400 invalid_header -");
    }

    async fn an_idempotency_key_is_one_of_its_queue(app: App) {
        let app = app.start();
        let options =
            EnqueueOptions { idempotency_key: Some("k".into()), ..EnqueueOptions::default() };
        let mut ids = Vec::new();
        for created in [true, false] {
            for (queue_name, args) in [("one", "[1]"), ("two", "[2]")] {
                let request = TaskRequest {
                    queue_name: Some(queue_name.into()),
                    args: json(args),
                    ..TaskRequest::new("a.b")
                };
                let answer = app.client.create_task(&request, &options).await.unwrap();
                assert_eq!(answer.created, created, "{queue_name}");
                ids.push(answer.task.id);
            }
        }
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[..2], ids[2..]);
        assert_eq!(app.count().await, 2);
    }

    async fn b75_a_key_lives_as_long_as_its_task(app: App) {
        let app = app.start();
        let options =
            EnqueueOptions { idempotency_key: Some("k".into()), ..EnqueueOptions::default() };
        let request = TaskRequest::new("a.b");
        let first = app.client.create_task(&request, &options).await.unwrap().task.id;
        app.client.cancel_task(first, false).await.unwrap();
        assert!(!app.client.create_task(&request, &options).await.unwrap().created);
        app.client.delete_task(first).await.unwrap();
        let second = app.client.create_task(&request, &options).await.unwrap();
        assert!(second.created && second.task.id != first);
    }

    async fn c49_a_unique_key_holds_while_its_task_lives(app: App) {
        let app = app.start();
        let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let executor = TestExecutor::start({
            let gate = gate.clone();
            move |_| Reply::Later(gate.clone(), Box::new(Reply::ok("1")))
        }).await;
        app.register_as("exec", &executor, |r| r.paused = true).await;
        let options = EnqueueOptions::default();
        let first = app.client.create_task(&unique(), &options).await.unwrap().task.id;
        let other = TaskRequest { args: json("[2]"), ..unique() };
        let waiting = app.client.create_task(&other, &options).await.unwrap();
        assert_eq!((waiting.created, waiting.task.id), (false, first));
        app.register(&executor).await;
        executor.called(1).await;
        let running = app.client.create_task(&unique(), &options).await.unwrap();
        assert_eq!((running.task.id, running.task.status), (first, TaskStatus::Running));
        gate.add_permits(1);
        app.end(first).await;
        let next = app.client.create_task(&unique(), &options).await.unwrap();
        assert!(next.created && next.task.id != first);
    }

    async fn b70_a_batch_follows_the_rules_of_a_single_task(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::status(400)).await;
        app.register(&executor).await;
        let batch = |tasks: Vec<TaskRequest>| {
            let client = app.client.clone();
            async move { client.create_tasks(&TaskBatch { tasks }).await }
        };
        app.enqueue_with(with_id("[1]")).await;
        assert_eq!(app.end(ID).await.status, TaskStatus::Failed);
        assert_eq!(app.enqueue_with(with_id("[1]")).await.id, ID);
        let answer = batch(vec![with_id("[1]"), TaskRequest::new("x")]).await.unwrap();
        assert_eq!((answer.ids[0], answer.existing), (ID, vec![0]));
        let before = app.count().await;
        let refused = batch(vec![TaskRequest::new("x"), with_id("[2]")]).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::IdConflict));
        assert!(refused.to_string().contains("/tasks/1/id"), "{refused}");
        assert_eq!(app.count().await, before, "all or nothing");
        // Within one batch as between two.
        let named = TaskRequest { id: Some(Uuid::from_u128(7)), args: json("[7]"), ..unique() };
        let answer = batch(vec![unique(), unique(), named]).await.unwrap();
        let ids = answer.ids;
        assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
        assert_eq!(answer.existing, [1, 2], "those that made no task");
        let twice = batch(vec![with_id("[1]"), with_id("[1]")]).await.unwrap().ids;
        assert_eq!(twice, [ID, ID]);
    }

    async fn a_retry_does_not_break_a_unique_key(app: App) {
        let app = app.start();
        let first = app.enqueue_with(unique()).await.id;
        app.client.cancel_task(first, false).await.unwrap();
        let second = app.enqueue_with(unique()).await.id;
        assert_ne!(first, second);
        let refused = app.client.retry_task(first).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::UniqueKeyTaken));
        app.client.cancel_task(second, false).await.unwrap();
        assert_eq!(app.client.retry_task(first).await.unwrap().status, TaskStatus::Ready);
    }
}
