//! Rows that nobody's program has written so: each harms its own task at most.

use nightshift_client::{
    TaskFilter,
    types::{ReasonCode, Task, TaskErrorKind, TaskRequest, TaskStatus, TokenScope},
};
use uuid::Uuid;

use crate::support::{
    app::{TestApp, value},
    database::execute,
    executor::{Reply, TestExecutor},
    on_both_engines,
    process::binary,
    soon,
    tokens::{code, secret, showing, wanted, with_admin},
};

/// What is done to the row of the task with the path, and how its task says so.
const FLAWS: &[(&str, &str, &str)] = &[
    ("backoff", "UPDATE tasks SET backoff = 'garbage'", "a backoff that cannot be read"),
    ("workers", "UPDATE tasks SET worker_ids = '{'", "worker_ids that cannot be read"),
    ("queue", "UPDATE tasks SET queue_name = ''", "a queue_name that is none"),
    ("attempts", "UPDATE tasks SET attempts = -1", "-1 attempts"),
    ("late", "UPDATE tasks SET started_at = 9223372036854775807", "9223372036854775807"),
    ("early", "UPDATE tasks SET due_at = -9223372036854775807", "-9223372036854775807"),
    ("inputs", "DELETE FROM task_inputs", "no args"),
    ("args", "UPDATE task_inputs SET args = '[1'", "args that cannot be read"),
    ("kwargs", "UPDATE task_inputs SET kwargs = 'x'", "kwargs that cannot be read"),
];

fn spoil(app: &TestApp, path: &str, statement: &str) {
    let of_it = if statement.contains("task_inputs") {
        format!("task_seq = (SELECT seq FROM tasks WHERE task_path = '{path}')")
    } else {
        format!("task_path = '{path}'")
    };
    execute(&app.database_url(), &format!("{statement} WHERE {of_it}"));
}

/// Tasks of which each has one of the flaws.
async fn enqueue_spoilt(app: &TestApp) -> Vec<(Uuid, &'static str)> {
    let mut spoilt = Vec::new();
    for (path, statement, said) in FLAWS {
        let id = app.enqueue(path).await.id;
        spoil(app, path, statement);
        spoilt.push((id, *said));
    }
    spoilt
}

fn last_message(task: &Task) -> &str {
    let error = task.errors.last().unwrap();
    assert_eq!(error.kind, TaskErrorKind::Rejected);
    &error.message
}

on_both_engines! {
    async fn rows_that_cannot_be_read_keep_no_worker_from_the_others(builder: App) {
        let app = builder.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let spoilt = enqueue_spoilt(&app).await;
        let mut good = Vec::new();
        for _ in 0..3 {
            good.push(app.enqueue("good").await.id);
        }
        assert_eq!(app.count().await, FLAWS.len() + 3);
        for (id, said) in &spoilt {
            let task = app.task(*id).await;
            assert_eq!(task.status, TaskStatus::Ready, "{said}");
            assert!(last_message(&task).contains(said), "{:?}", task.errors);
            let reasons = app.client.explain_task(*id).await.unwrap().reasons;
            assert_eq!(reasons[0].code, ReasonCode::Unreadable, "{said}");
            assert!(reasons[0].detail.contains(said), "{}", reasons[0].detail);
        }
        let leases = worker.lease(100).await;
        assert_eq!(leases.iter().map(|lease| lease.task.id).collect::<Vec<_>>(), good);
        for (id, said) in &spoilt {
            let task = app.task(*id).await;
            assert_eq!((task.status, task.errors.len()), (TaskStatus::Failed, 1), "{said}");
            assert!(last_message(&task).contains(said), "{:?}", task.errors);
        }
        assert_eq!(app.count().await, FLAWS.len() + 3);
        app.client.get_stats().await.unwrap();
        app.client.list_queues(None, None).await.unwrap();
        for (id, _) in &spoilt {
            app.client.delete_task(*id).await.unwrap();
        }
        assert_eq!(app.count().await, 3);
    }

    async fn rows_that_cannot_be_read_keep_no_executor_from_the_others(builder: App) {
        let app = builder.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let spoilt = enqueue_spoilt(&app).await;
        let good = app.enqueue("good").await.id;
        app.register(&executor).await;
        assert_eq!(app.end(good).await.status, TaskStatus::Successful);
        for (id, said) in spoilt {
            let task = app.end(id).await;
            assert_eq!((task.status, task.errors.len()), (TaskStatus::Failed, 1), "{said}");
        }
        assert_eq!(executor.calls().len(), 1);
    }

    async fn a_row_that_cannot_be_read_is_cancelled_and_deleted(builder: App) {
        let app = builder.start();
        for (id, said) in enqueue_spoilt(&app).await {
            let task = app.client.cancel_task(id, false).await.unwrap();
            assert_eq!(task.status, TaskStatus::Cancelled, "{said}");
            app.client.delete_task(id).await.unwrap();
        }
        assert_eq!(app.count().await, 0);
    }

    // A stage that there is not counts as an end.
    async fn a_stage_that_is_none_is_shown_and_deleted(builder: App) {
        let app = builder.start();
        let id = app.enqueue("odd").await.id;
        app.enqueue("good").await;
        spoil(&app, "odd", "UPDATE tasks SET stage = 77");
        assert_eq!(app.count().await, 2);
        let task = app.task(id).await;
        assert_eq!(task.status, TaskStatus::Failed);
        assert!(last_message(&task).contains("the stage 77"));
        let of_doctor = doctor(&app).await;
        assert!(of_doctor.contains(&format!("task {id}: the database holds the stage 77")), "{of_doctor}");
        app.client.delete_task(id).await.unwrap();
        assert_eq!(app.count().await, 1);
    }

    async fn a_running_task_ends_as_its_worker_says_and_sweeps_go_on(builder: App) {
        let app = builder.start();
        let worker = app.register_workers("tom", |_| {}).await;
        app.enqueue("runs").await;
        let lease = worker.next().await;
        spoil(&app, "runs", "UPDATE tasks SET backoff = 'x', worker_ids = 'x', history = 'x'");
        let later = TaskRequest {
            run_after: Some("2999-01-01T00:00:00Z".parse().unwrap()),
            ..TaskRequest::new("later")
        };
        app.enqueue_with(later).await;
        spoil(&app, "later", "UPDATE tasks SET due_at = 9223372036854775807");
        app.run_sweeps().await;
        app.client.get_stats().await.unwrap();
        let task = worker.finish(&lease, value("7")).await.unwrap();
        assert_eq!(task.status, TaskStatus::Successful);
    }

    async fn an_executor_that_cannot_be_read_waits_and_the_others_go_on(builder: App) {
        let app = builder.start();
        let one = app.register_workers("one", |r| r.task_paths = vec!["one.*".into()]).await;
        let all = app.register_workers("all", |_| {}).await;
        execute(
            &app.database_url(),
            "UPDATE executors SET backoff = 'x' WHERE name = 'one'; \
             UPDATE routing SET version = version + 1",
        );
        let id = app.enqueue("one.task").await.id;
        let other = app.enqueue("other").await.id;
        let leases = all.lease(10).await;
        assert_eq!(leases.iter().map(|lease| lease.task.id).collect::<Vec<_>>(), [other]);
        let reasons = app.client.explain_task(id).await.unwrap().reasons;
        assert_eq!(reasons[0].code, ReasonCode::Unreadable);
        assert_eq!(app.client.list_executors(None, None).await.unwrap().items.len(), 1);
        let said = doctor(&app).await;
        assert!(said.contains("executor one: the database holds backoff"), "{said}");
        app.register_workers("one", |r| r.task_paths = vec!["one.*".into()]).await;
        assert_eq!(one.next().await.task.id, id);
    }

    async fn a_secret_that_cannot_be_read_does_not_keep_the_service_from_starting(builder: App) {
        let app = builder.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("odd", &executor, |r| r.task_paths = vec!["odd".into()]).await;
        execute(&app.database_url(), "UPDATE executors SET secret = 'x'");
        let app = app.stop().await.start();
        app.register(&executor).await;
        let odd = app.enqueue("odd").await.id;
        let good = app.enqueue("good").await.id;
        assert_eq!(app.end(good).await.status, TaskStatus::Successful);
        assert_eq!(app.task(odd).await.status, TaskStatus::Ready);
    }

    async fn a_token_that_cannot_be_read_lets_nobody_in_and_shuts_nobody_out(builder: App) {
        let app = with_admin(builder).start();
        let admin = showing(&app, crate::support::tokens::ADMIN);
        let odd = secret(&admin, wanted("odd", &[TokenScope::Read])).await;
        let good = secret(&admin, wanted("good", &[TokenScope::Read])).await;
        execute(
            &app.database_url(),
            "UPDATE tokens SET scopes = 'everything' WHERE name = 'odd'; \
             UPDATE token_log SET version = version + 1",
        );
        let mut builder = app.stop().await;
        // Nor is everybody let in because the only tokens there are cannot be read.
        builder.config.admin_token = None;
        let app = builder.start();
        assert_eq!(app.send(app.request("GET", "/tasks")).await.status, 401);
        let all = TaskFilter::default();
        assert_eq!(code(showing(&app, &odd).list_tasks(&all).await), "unauthorized");
        showing(&app, &good).list_tasks(&all).await.unwrap();
        let said = doctor(&app).await;
        assert!(said.contains("token odd:"), "{said}");
    }
}

/// What it prints, on one line.
async fn doctor(app: &TestApp) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut doctor = binary();
    doctor.args(["--server", &app.server, "--json", "doctor"]);
    doctor.args(["--database-url", &app.database_url()]).current_dir(folder.path());
    let output = soon("the end of doctor", doctor.output()).await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}
