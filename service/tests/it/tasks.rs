//! A task's life over HTTP.

use std::{collections::HashSet, time::Duration};

use nightshift_client::{
    Client, EnqueueOptions, Error, Retry,
    types::{
        ErrorCode, FinishRequest, Json, ReasonCode, TaskBatch, TaskErrorKind, TaskRequest,
        TaskStatus,
    },
};

use crate::support::{
    app::json,
    executor::{Reply, TestExecutor},
    on_both_engines, soon,
};

on_both_engines! {
    async fn c1_enqueue_returns_at_once(app: App) {
        let app = app.start();
        let request = TaskRequest {
            args: json(r#"[1,"two"]"#),
            kwargs: json(r#"{"x":1}"#),
            ..TaskRequest::new("a.b")
        };
        let task = app.enqueue_with(request).await;
        assert_eq!(task.status, TaskStatus::Ready);
        assert_eq!((task.args.as_str(), task.kwargs.as_str()), (r#"[1,"two"]"#, r#"{"x":1}"#));
        assert_eq!((task.started_at, task.last_attempted_at, task.finished_at), (None, None, None));
        assert_eq!((&task.return_value, &task.progress, task.run_after), (&None, &None, None));
        assert!(task.errors.is_empty() && task.worker_ids.is_empty());
        assert_eq!(app.task(task.id).await, task, "what is stored is what was answered");
    }

    async fn c2_ids_are_short_unique_strings(app: App) {
        let app = app.start();
        let mut ids = HashSet::new();
        for _ in 0..50 {
            let task = app.enqueue("a.b").await;
            assert!(task.id.to_string().len() <= 63);
            assert!(ids.insert(task.id));
        }
    }

    async fn c3_an_unknown_id_is_not_found(app: App) {
        let app = app.start();
        let unknown = "00000000-0000-7000-8000-000000000000";
        for id in [unknown, "123", "no-uuid", "a%2Fb", "%F0%9F%9A%80", "..", "%00"] {
            for route in ["", "/status", "/result", "/explain", "/logs"] {
                let answer = app.send(app.request("GET", &format!("/tasks/{id}{route}"))).await;
                assert_eq!(answer.status, 404, "{id}{route}: {answer:?}");
            }
        }
        let answer = app.send(app.request("GET", "/tasks/")).await;
        assert_eq!(answer.problem(), "404 unknown_route -");
        let answer = app.post(&format!("/tasks/{unknown}/cancel"), "").await;
        assert_eq!(answer.problem(), "404 task_not_found -");
    }

    async fn c6_success(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok(r#"{"b": 1, "a": 1e-7}"#)).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let task = app.end(id).await;
        assert_eq!(task.status, TaskStatus::Successful);
        assert!(task.started_at >= Some(task.enqueued_at));
        assert!(task.finished_at >= task.started_at);
        assert_eq!((task.attempts, task.deliveries), (1, 1));
        assert_eq!(task.worker_ids, ["exec"]);
        assert_eq!(task.return_value.unwrap().as_str(), r#"{"b": 1, "a": 1e-7}"#);
        let result = app.client.get_task_result(id, None).await.unwrap();
        assert_eq!(result.return_value.unwrap().as_str(), r#"{"b": 1, "a": 1e-7}"#);
    }

    async fn c7_returning_nothing_is_success_with_null(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|call| match call.message().data.task_path.as_str() {
            "no.content" => Reply::status(204),
            "null" => Reply::ok("null"),
            _ => Reply::status(500),
        }).await;
        app.register_as("exec", &executor, |request| request.max_attempts = Some(1)).await;
        for path in ["no.content", "null"] {
            let id = app.enqueue(path).await.id;
            let answer = app.send(app.request("GET", &format!("/tasks/{id}/result?wait=30"))).await;
            assert_eq!((answer.status, &answer.json()["status"]), (200, &"SUCCESSFUL".into()));
            assert!(answer.json()["return_value"].is_null());
        }
        let failed = app.enqueue("fails").await.id;
        assert_eq!(app.end(failed).await.status, TaskStatus::Failed);
    }

    async fn c9_an_error_of_the_executor_is_recorded(app: App) {
        let app = app.start();
        let body = r#"{"exception_class_path":"builtins.ValueError","message":"no",
            "traceback":"Tb\nValueError: no\n","retryable":false}"#;
        let executor = TestExecutor::start(move |_| Reply::with(500, body)).await;
        app.register(&executor).await;
        let task = app.enqueue("a.b").await;
        let task = app.end(task.id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Failed, 1));
        let error = &task.errors[0];
        assert_eq!((error.kind, error.attempt), (TaskErrorKind::Exception, 1));
        assert_eq!(error.exception_class_path.as_deref(), Some("builtins.ValueError"));
        assert!(error.traceback.as_deref().unwrap().ends_with("ValueError: no\n"));
    }

    async fn c14_b35_every_value_makes_the_round_trip_unchanged(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|call| Reply::ok(call.message().data.args.as_str())).await;
        app.register(&executor).await;
        let deep = "[".repeat(90) + &"]".repeat(90);
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        let values = [
            &format!("1{}", "0".repeat(40)), r#""\u0000""#, "1e-7", "-0.0", "1E400", &deep, &long,
            r#"{"b":1,"a":2,"b":3}"#, r#""\ud800""#, "\"\u{feff}\u{ffff}\"", r#"{"🚀":"\u00e9"}"#,
        ];
        for value in values {
            let args = format!("[{value}]");
            let request = TaskRequest { args: json(&args), ..TaskRequest::new("echo") };
            let id = app.enqueue_with(request).await.id;
            let task = app.end(id).await;
            let shown: String = value.chars().take(40).collect();
            assert_eq!(task.status, TaskStatus::Successful, "{shown}: {:?}", task.errors);
            assert!(task.args.as_str() == args, "args {shown}");
            assert!(task.return_value.as_ref().map(Json::as_str) == Some(&args), "result {shown}");
        }
    }

    async fn c55_a_waiting_task_is_told_from_an_unknown_one(app: App) {
        let app = app.start();
        let id = app.enqueue("nobody.serves.it").await.id;
        let answer = app.send(app.request("GET", &format!("/tasks/{id}/result"))).await;
        assert_eq!((answer.status, answer.header("retry-after")), (202, Some("1")));
        let explanation = app.client.explain_task(id).await.unwrap();
        assert_eq!(explanation.reasons[0].code, ReasonCode::Unrouted);
    }

    async fn prefer_wait_answers_the_finished_task(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("7")).await;
        app.register(&executor).await;
        let options = EnqueueOptions { wait: Some(Duration::from_secs(30)), ..Default::default() };
        let request = TaskRequest::new("a.b");
        let enqueued = app.client.create_task(&request, &options).await.unwrap();
        assert!(enqueued.created);
        assert_eq!(enqueued.task.status, TaskStatus::Successful);
    }

    async fn no_wait_is_as_long_as_that_of_a_proxy(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("7")).await;
        app.register(&executor).await;
        for (asked, applied) in [("wait=60", "wait=50"), ("wait=7", "wait=7")] {
            let request = app.request("POST", "/tasks").header("prefer", asked);
            let request = request.header("content-type", "application/json");
            let answer = app.send(request.body(r#"{"task_path":"a"}"#)).await;
            assert_eq!(answer.header("preference-applied"), Some(applied));
        }
    }

    async fn a_finished_task_is_deleted_and_a_live_one_is_not(app: App) {
        let app = app.start();
        let id = app.enqueue("a.b").await.id;
        let refused = app.client.delete_task(id).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::TaskNotFinished));
        app.client.cancel_task(id, false).await.unwrap();
        app.client.delete_task(id).await.unwrap();
        let gone = app.client.get_task(id, None).await.unwrap_err();
        assert_eq!(gone.code(), Some(ErrorCode::TaskNotFound));
    }

    async fn a_failed_task_is_retried_with_its_history(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|call| match call.message().data.attempt {
            1 => Reply::status(400),
            _ => Reply::ok("1"),
        }).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        assert_eq!(app.end(id).await.status, TaskStatus::Failed);
        let retried = app.client.retry_task(id).await.unwrap();
        // By now it may have run again.
        assert_eq!((retried.id, retried.errors.len()), (id, 1));
        let task = app.end(id).await;
        assert_eq!((task.status, task.attempts, task.errors.len()), (TaskStatus::Successful, 2, 1));
        let refused = app.client.retry_task(id).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::TaskNotRetryable));
    }

    async fn b98_a_restart_loses_nothing(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.task_paths = vec!["runs".into()]).await;
        let done = app.enqueue("runs").await.id;
        app.end(done).await;
        let waiting = app.enqueue("waits").await.id;
        let (before, waiting_before) = (app.task(done).await, app.task(waiting).await);
        let app = app.stop().await.start();
        assert_eq!(app.task(done).await, before);
        assert_eq!(app.task(waiting).await, waiting_before);
        assert_eq!(app.client.list_executors(None, None).await.unwrap().items.len(), 1);
    }

    async fn b34_c51_a_nul_in_an_error_is_stored(app: App) {
        let app = app.start();
        let body = r#"{"message":"a\u0000b \ud800","traceback":"\u0000","retryable":false}"#;
        let executor = TestExecutor::start(move |call| {
            if call.message().data.task_path == "bad" { Reply::with(500, body) } else { Reply::ok("1") }
        }).await;
        app.register(&executor).await;
        let bad = app.enqueue("bad").await.id;
        let good = app.enqueue("good").await.id;
        let task = app.end(bad).await;
        assert_eq!(task.errors[0].message, "a\\u0000b \u{fffd}");
        assert_eq!(app.end(good).await.status, TaskStatus::Successful);
    }

    async fn b42_a_long_error_is_cut_between_characters(app: App) {
        let app = app.start();
        let message = format!("{}é!", "a".repeat(16 * 1024 - 1));
        let body = format!(r#"{{"message":"{message}","retryable":false}}"#);
        let executor = TestExecutor::start(move |_| Reply::with(500, &body)).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        assert_eq!(app.end(id).await.errors[0].message, "a".repeat(16 * 1024 - 1));
    }

    async fn c50_b83_many_writers_meet_no_locked_database(app: App) {
        let app = app.start();
        let one = TestExecutor::start(|_| Reply::ok("1")).await;
        let two = TestExecutor::start(|_| Reply::ok("2")).await;
        app.register_as("one", &one, |r| r.task_paths = vec!["one".into()]).await;
        app.register_as("two", &two, |r| r.task_paths = vec!["two".into()]).await;
        let enqueuers = (0..4).map(|n| {
            let client = app.client.clone();
            async move {
                let mut ids = Vec::new();
                for _ in 0..100 {
                    let request = TaskRequest::new(if n % 2 == 0 { "one" } else { "two" });
                    let enqueued = client.create_task(&request, &EnqueueOptions::default()).await;
                    ids.push(enqueued.unwrap().task.id);
                }
                ids
            }
        });
        for id in futures_util::future::join_all(enqueuers).await.concat() {
            let task = app.end(id).await;
            assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
        }
    }

    async fn b67_b71_one_unique_key_is_one_task_however_many_ask(app: App) {
        let app = app.start();
        let request = TaskRequest { unique_key: Some("k".into()), ..TaskRequest::new("a.b") };
        let asking = (0..100).map(|_| {
            let (client, request) = (app.client.clone(), request.clone());
            async move { client.create_task(&request, &EnqueueOptions::default()).await.unwrap() }
        });
        let answers = futures_util::future::join_all(asking).await;
        assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1);
        let ids: HashSet<_> = answers.iter().map(|answer| answer.task.id).collect();
        assert_eq!((ids.len(), app.count().await), (1, 1));
    }

    async fn a_batch_is_enqueued_in_order(app: App) {
        let app = app.start();
        let tasks = (0..300).map(|n| TaskRequest {
            args: json(&format!("[{n}]")),
            ..TaskRequest::new("a.b")
        });
        let ids = app.client.create_tasks(&TaskBatch { tasks: tasks.collect() }).await.unwrap().ids;
        assert_eq!(app.task(ids[299]).await.args.as_str(), "[299]");
        let lines = "{\"task_path\":\"a\"}\n\n{\"task_path\":\"b\",\"args\":[1e-7]}\r\n";
        let request = app.request("POST", "/tasks/batch").header("content-type", "application/x-ndjson");
        let answer = app.send(request.body(lines)).await;
        assert_eq!((answer.status, answer.json()["ids"].as_array().unwrap().len()), (201, 2));
    }

    async fn readiness_means_that_it_commits(app: App) {
        let app = app.start();
        app.client.get_health().await.unwrap();
        app.client.get_readiness().await.unwrap();
    }

    async fn a_token_that_names_nothing_is_a_lost_lease(app: App) {
        let app = app.start();
        let finish = FinishRequest { cancelled: true, ..FinishRequest::default() };
        for token in ["", "x", &"0".repeat(48), &"f".repeat(48)] {
            let answer = app.client.finish_lease(token, &finish).await.unwrap_err();
            let expected = if token.is_empty() { ErrorCode::UnknownRoute } else { ErrorCode::LeaseLost };
            assert_eq!(answer.code(), Some(expected), "{token}");
        }
    }
}

#[tokio::test]
async fn c44_a_service_that_is_down_is_a_clear_error_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::new(&format!("http://{free}")).unwrap().with_retry(Retry::never());
    let request = TaskRequest::new("a.b");
    let options = EnqueueOptions::default();
    let enqueuing = client.create_task(&request, &options);
    let error = soon("the error", enqueuing).await.unwrap_err();
    assert!(matches!(&error, Error::Transport(error) if error.is_connect()), "{error:?}");
}
