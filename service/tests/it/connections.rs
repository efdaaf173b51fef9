//! Connections that executors close too early, and answers that are none of theirs.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use nightshift_client::types::{Backoff, TaskErrorKind, TaskRequest, TaskStatus};

use crate::support::{
    app::TestApp,
    executor::{Reply, TestExecutor},
    on_both_engines,
};

const TASKS: u32 = 5;

/// Answers once on each connection. A second request finds it closed, as one does that crosses
/// the end of a connection that was idle for too long.
async fn closing_early(headers: &'static str) -> TestExecutor {
    let used = Mutex::new(HashSet::new());
    TestExecutor::start(move |call| {
        if used.lock().unwrap().insert(call.connection) {
            Reply::Answer(200, headers, "1".to_owned())
        } else {
            Reply::Close
        }
    })
    .await
}

/// Tasks one after the other, all of which succeed; returns the attempts that they took.
async fn attempts(app: &TestApp, max_attempts: i64) -> u32 {
    let mut attempts = 0;
    for _ in 0..TASKS {
        let id = app.enqueue_with(at_once(max_attempts)).await.id;
        let task = app.end(id).await;
        assert_eq!(task.status, TaskStatus::Successful, "{:?}", task.errors);
        attempts += task.attempts;
    }
    attempts
}

fn at_once(max_attempts: i64) -> TaskRequest {
    let backoff = Backoff { initial_seconds: Some(0.0), ..Backoff::default() };
    let max_attempts = Some(max_attempts);
    TaskRequest { backoff: Some(backoff), max_attempts, ..TaskRequest::new("a.b") }
}

/// What stands at the executor's address: something else at first, and then the executor.
async fn moving_in(status: u16) -> (TestExecutor, Arc<AtomicBool>) {
    let is_there = Arc::new(AtomicBool::new(false));
    let executor = TestExecutor::start({
        let is_there = Arc::clone(&is_there);
        move |call| {
            let id = call.message().data.task_id;
            let (status, header) = if is_there.load(Ordering::SeqCst) {
                (200, format!("Nightshift-Task-Id: {id}\r\n"))
            } else {
                (status, String::new())
            };
            let answer = format!("HTTP/1.1 {status} X\r\n{header}content-length: 4\r\n\r\nnull");
            Reply::Raw(answer.into_bytes())
        }
    })
    .await;
    (executor, is_there)
}

on_both_engines! {
    async fn a_task_that_may_be_tried_once_has_a_connection_of_its_own(app: App) {
        let app = app.start();
        let executor = closing_early("").await;
        app.register(&executor).await;
        assert_eq!(attempts(&app, 1).await, TASKS);
    }

    async fn what_an_executor_says_of_its_connections_is_heeded(app: App) {
        let app = app.start();
        let executor = closing_early("keep-alive: timeout=1, max=100\r\n").await;
        app.register(&executor).await;
        assert_eq!(attempts(&app, 3).await, TASKS);
    }

    async fn a_connection_that_breaks_is_the_last_that_is_used_again(app: App) {
        let app = app.start();
        let executor = closing_early("").await;
        app.register(&executor).await;
        let attempts = attempts(&app, 3).await;
        assert!(attempts <= TASKS + 1, "{attempts}: one is lost, and no more");
    }

    async fn an_answer_without_the_tasks_id_is_none_of_the_executors(app: App) {
        let app = app.start();
        for status in [200, 202] {
            let (executor, is_there) = moving_in(status).await;
            let shown = app.register_as("exec", &executor, |r| r.echoes_task_id = true).await;
            assert!(shown.echoes_task_id);
            let once = app.end(app.enqueue_with(at_once(1)).await.id).await;
            assert_eq!(once.status, TaskStatus::Failed, "it may have begun");
            assert_eq!(once.errors[0].kind, TaskErrorKind::Lost);
            assert!(once.errors[0].message.contains("nightshift-task-id"), "{:?}", once.errors);
            let id = app.enqueue_with(at_once(3)).await.id;
            let waits = |task: &nightshift_client::types::Task| {
                task.deliveries > 0 && task.status == TaskStatus::Ready
            };
            assert_eq!(app.task_when(id, waits).await.attempts, 0);
            let hold = app.client.get_executor("exec").await.unwrap().hold.unwrap();
            assert!(hold.reason.contains("nightshift-task-id"), "{hold:?}");
            is_there.store(true, Ordering::SeqCst);
            assert_eq!(app.end(id).await.status, TaskStatus::Successful);
        }
    }

    async fn an_encoded_answer_is_refused_with_its_encoding(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| {
            Reply::Answer(200, "content-encoding: gzip\r\n", "1".to_owned())
        })
        .await;
        app.register(&executor).await;
        let task = app.end(app.enqueue("a.b").await.id).await;
        assert_eq!((task.status, task.errors[0].kind), (TaskStatus::Failed, TaskErrorKind::Rejected));
        assert!(task.errors[0].message.contains("Content-Encoding: gzip"), "{:?}", task.errors);
        assert_eq!(executor.calls()[0].headers["accept-encoding"], "identity");
    }
}
