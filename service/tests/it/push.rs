//! What an HTTP executor is sent, and what its answers mean.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use nightshift_client::types::{
    ErrorCode, ExecutorChange, ExecutorRequest, ReasonCode, TaskErrorKind, TaskRequest, TaskStatus,
};
use serde_json::Value;

use crate::support::{
    app::{SECRET, json},
    executor::{Reply, TestExecutor, verify},
    on_both_engines, until,
};

const OLD_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

on_both_engines! {
    async fn calls_are_signed_with_both_secrets(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.previous_secret = Some(OLD_SECRET.into())).await;
        let id = app.enqueue("a.b").await.id;
        app.end(id).await;
        let call = &executor.calls()[0];
        assert!(verify(call, SECRET, &call.body));
        assert!(verify(call, OLD_SECRET, &call.body));
        assert!(!verify(call, SECRET, &call.body.replace("a.b", "x.y")));
        assert!(!verify(call, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &call.body));
        assert_eq!(call.headers["webhook-id"], format!("{id}.1"));
        assert_eq!(call.headers["content-type"], "application/json");
    }

    async fn a_registration_that_names_no_secret_keeps_those_that_there_are(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.previous_secret = Some(OLD_SECRET.into())).await;
        let shown = app
            .register_as("exec", &executor, |r| {
                r.secret = None;
                r.concurrency = Some(3);
            })
            .await;
        assert_eq!(shown.concurrency, Some(3));
        app.end(app.enqueue("a.b").await.id).await;
        let call = &executor.calls()[0];
        assert!(verify(call, SECRET, &call.body) && verify(call, OLD_SECRET, &call.body));
        let request = ExecutorRequest {
            task_paths: vec!["*".to_owned()],
            url: Some(executor.url()),
            ..ExecutorRequest::default()
        };
        let refused = app.client.put_executor("new", &request).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::InvalidField), "it has none yet");
    }

    async fn a_change_of_an_executor_leaves_the_rest_as_it_is(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let before = app.register_as("exec", &executor, |r| r.concurrency = Some(3)).await;
        let change = async |change: ExecutorChange| app.client.update_executor("exec", &change).await;
        let shown = change(ExecutorChange::default()).await.unwrap();
        assert_eq!(shown, before);
        let paused = |paused| ExecutorChange { paused: Some(paused), ..ExecutorChange::default() };
        let shown = change(paused(true)).await.unwrap();
        assert_eq!((shown.paused, shown.concurrency), (true, Some(3)));
        assert_eq!(app.client.get_executor("exec").await.unwrap(), shown);
        let id = app.enqueue("a.b").await.id;
        let reasons = app.client.explain_task(id).await.unwrap().reasons;
        assert_eq!(reasons[0].code, ReasonCode::ExecutorPaused);
        let limit = |concurrency| ExecutorChange { concurrency, ..ExecutorChange::default() };
        assert_eq!(change(limit(Some(Some(7)))).await.unwrap().concurrency, Some(7));
        assert_eq!(change(limit(Some(None))).await.unwrap().concurrency, Some(10));
        let refused = change(limit(Some(Some(0)))).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::InvalidField));
        assert!(change(paused(false)).await.is_ok());
        assert_eq!(app.end(id).await.status, TaskStatus::Successful);
        assert!(verify(&executor.calls()[0], SECRET, &executor.calls()[0].body), "as before");
        let unknown = app.client.update_executor("none", &paused(true)).await.unwrap_err();
        assert_eq!(unknown.code(), Some(ErrorCode::ExecutorNotFound));
    }

    async fn an_executor_that_is_resumed_is_not_held_any_more(app: App) {
        let app = app.start();
        let busy = Arc::new(AtomicBool::new(true));
        let executor = TestExecutor::start({
            let busy = Arc::clone(&busy);
            move |_| {
                if busy.load(Ordering::SeqCst) {
                    return Reply::Answer(503, "retry-after: 3600\r\n", String::new());
                }
                Reply::ok("1")
            }
        })
        .await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        until("a hold", || async { app.client.get_executor("exec").await.unwrap().hold }).await;
        busy.store(false, Ordering::SeqCst);
        let resumed = ExecutorChange { paused: Some(false), ..ExecutorChange::default() };
        assert_eq!(app.client.update_executor("exec", &resumed).await.unwrap().hold, None);
        assert_eq!(app.end(id).await.status, TaskStatus::Successful);
    }

    async fn a_call_tells_all_about_the_attempt(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register(&executor).await;
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let body = r#"{"task_path":"a.b","args":[1e-7,"\ud800"],"kwargs":{"b":1,"a":2,"b":3},
            "queue_name":"slow","priority":5,"labels":{"target":"m31"},"max_attempts":7}"#;
        let request = app.request("POST", "/tasks").header("content-type", "application/json");
        let answer = app.send(request.header("traceparent", trace).body(body)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let call = executor.called(1).await.remove(0);
        assert_eq!(call.headers["traceparent"], trace);
        assert!(call.body.contains(r#""args":[1e-7,"\ud800"],"kwargs":{"b":1,"a":2,"b":3}"#));
        let data = call.message().data;
        assert_eq!((data.attempt, data.max_attempts, data.priority), (1, 7, 5));
        assert_eq!((data.queue_name.as_str(), data.labels["target"].as_str()), ("slow", "m31"));
        let seconds = jiff::Timestamp::from(data.deadline)
            .duration_since(data.enqueued_at.into()).as_secs_f64();
        assert!((300.0..310.0).contains(&seconds), "{seconds}");
    }

    async fn an_invalid_traceparent_is_not_passed_on(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register(&executor).await;
        let invalid = [
            "nonsense",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ];
        for (trace, calls) in invalid.into_iter().zip(1..) {
            let request = app.request("POST", "/tasks").header("content-type", "application/json");
            app.send(request.header("traceparent", trace).body(r#"{"task_path":"a"}"#)).await;
            let headers = &executor.called(calls).await[calls - 1].headers;
            assert!(!headers.contains_key("traceparent"), "{trace}");
        }
    }

    async fn connections_are_kept(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.concurrency = Some(1)).await;
        for _ in 0..5 {
            let id = app.enqueue("a.b").await.id;
            app.end(id).await;
        }
        assert!(executor.calls().iter().all(|call| call.connection == 0));
    }

    async fn each_answer_has_its_meaning(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|call| {
            let args: (u16, String) = call.message().data.args.parse_as().unwrap();
            Reply::Answer(args.0, "", args.1)
        }).await;
        app.register_as("exec", &executor, |r| r.max_attempts = Some(1)).await;
        let deep = "[".repeat(129) + &"]".repeat(129);
        let problem = r#"{"type":"about:blank","title":"T","detail":"D","class":1}"#;
        for (status, body, kind, retryable, message) in [
            (200, "NaN", TaskErrorKind::Rejected, false, "not JSON"),
            (200, "", TaskErrorKind::Rejected, false, "not JSON"),
            (200, "1 2", TaskErrorKind::Rejected, false, "not JSON"),
            (200, &deep, TaskErrorKind::Rejected, false, "too deeply"),
            (206, "1", TaskErrorKind::Rejected, false, "answered 206"),
            (301, "", TaskErrorKind::Rejected, false, "never followed"),
            (400, problem, TaskErrorKind::Rejected, false, "D"),
            (404, "<html>no</html>", TaskErrorKind::Rejected, false, "answered 404: <html>"),
            (408, "", TaskErrorKind::Exception, true, "answered 408"),
            (422, r#"{"message":"m","retryable":true}"#, TaskErrorKind::Rejected, true, "m"),
            (500, r#"{"title":"T"}"#, TaskErrorKind::Exception, true, "T"),
            (502, "", TaskErrorKind::Exception, true, "answered 502"),
            (599, r#"{"retryable":false}"#, TaskErrorKind::Exception, false, "answered 599"),
        ] {
            let args = format!("[{status},{}]", serde_json::to_string(body).unwrap());
            let request = TaskRequest {
                args: json(&args),
                max_attempts: Some(2),
                ..TaskRequest::new("a.b")
            };
            let id = app.enqueue_with(request).await.id;
            let task = app.task_when(id, |task| !task.errors.is_empty()).await;
            let error = &task.errors[0];
            assert_eq!(error.kind, kind, "{status} {body:.40}: {error:?}");
            assert!(error.message.contains(message), "{status} {body:.40}: {error:?}");
            let status_after = if retryable { TaskStatus::Ready } else { TaskStatus::Failed };
            assert_eq!(task.status, status_after, "{status} {body:.40}");
        }
        let created = TaskRequest { args: json(r#"[201,"{\"id\": 1}"]"#), ..TaskRequest::new("a.b") };
        let id = app.enqueue_with(created).await.id;
        assert_eq!(app.end(id).await.return_value.unwrap().as_str(), r#"{"id": 1}"#);
    }

    async fn b106_a_redirect_is_not_followed(app: App) {
        let app = app.start();
        let elsewhere = TestExecutor::start(|_| Reply::ok("1")).await;
        let location: &'static str = format!("location: {}\r\n", elsewhere.url()).leak();
        let executor = TestExecutor::start(move |_| Reply::Answer(307, location, String::new())).await;
        app.register(&executor).await;
        let id = app.enqueue("a.b").await.id;
        let task = app.end(id).await;
        assert_eq!((task.status, task.attempts), (TaskStatus::Failed, 1));
        assert_eq!(task.errors[0].kind, TaskErrorKind::Rejected);
        assert_eq!(elsewhere.calls().len(), 0);
    }

    async fn b107_an_answer_is_bounded(app: App) {
        let mut app = app;
        app.config.return_value_bytes_max = 1_000;
        let app = app.start();
        let executor = TestExecutor::start(|call| {
            let head = b"HTTP/1.1 200 OK\r\n".to_vec();
            match call.message().data.task_path.as_str() {
                // Says that it is large, and hangs.
                "announced" => Reply::RawThenHang([&head[..], b"content-length: 1001\r\n\r\n"].concat()),
                // Does not say so, and never ends.
                "endless" => Reply::RawThenHang([&head[..], b"\r\n", &[b' '; 5_000]].concat()),
                // Breaks off before the end that it announced.
                "short" => Reply::Raw([&head[..], b"content-length: 900\r\n\r\n[1"].concat()),
                _ => Reply::ok(&format!("\"{}\"", "x".repeat(998))),
            }
        }).await;
        app.register_as("exec", &executor, |r| r.max_attempts = Some(1)).await;
        for (path, kind) in [
            ("announced", TaskErrorKind::Rejected),
            ("endless", TaskErrorKind::Rejected),
            ("short", TaskErrorKind::Lost),
        ] {
            let id = app.enqueue(path).await.id;
            let task = app.end(id).await;
            assert_eq!(task.errors[0].kind, kind, "{path}: {task:?}");
        }
        let id = app.enqueue("small.enough").await.id;
        assert_eq!(app.end(id).await.status, TaskStatus::Successful);
    }

    async fn b105_a_refused_address_cannot_be_registered(app: App) {
        let app = app.start();
        let body = format!(
            r#"{{"kind":"http","task_paths":["*"],"url":"http://169.254.169.254/","secret":"{SECRET}"}}"#
        );
        let request = app.request("PUT", "/executors/bad").header("content-type", "application/json");
        let answer = app.send(request.body(body)).await;
        assert_eq!(answer.problem(), "422 invalid_field /url");
        let answer = app.send(app.request("GET", "/executors/bad")).await;
        assert_eq!(answer.problem(), "404 executor_not_found -");
    }

    async fn secrets_are_never_shown(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        app.register_as("exec", &executor, |r| r.previous_secret = Some(OLD_SECRET.into())).await;
        for path in ["/executors", "/executors/exec"] {
            let text = app.send(app.request("GET", path)).await.text;
            assert!(text.contains("exec") && !text.contains("whsec_"), "{text}");
        }
    }

    async fn defaults_come_from_the_task_then_the_executor_then_the_service(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let of = |task: &nightshift_client::types::Task| (task.max_attempts, task.timeout_seconds);
        assert_eq!(of(&app.enqueue("nobody").await), (3, 300.0));
        app.register_as("exec", &executor, |r| {
            r.max_attempts = Some(5);
            r.timeout_seconds = Some(7.5);
        }).await;
        assert_eq!(of(&app.enqueue("a").await), (5, 7.5));
        let own = TaskRequest {
            max_attempts: Some(2),
            timeout_seconds: Some(0.5),
            ..TaskRequest::new("a")
        };
        assert_eq!(of(&app.enqueue_with(own).await), (2, 0.5));
    }

    async fn registering_is_idempotent_and_forgetting_is_not_found_twice(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let first = app.register(&executor).await;
        let second = app.register(&executor).await;
        let same = |e: nightshift_client::types::Executor| {
            let mut value = serde_json::to_value(e).unwrap();
            value["updated_at"] = Value::Null;
            value
        };
        assert_eq!(same(first), same(second));
        app.client.delete_executor("exec").await.unwrap();
        let answer = app.send(app.request("DELETE", "/executors/exec")).await;
        assert_eq!(answer.problem(), "404 executor_not_found -");
        let answer = app.send(app.request("DELETE", "/executors/a%2Fb")).await;
        assert_eq!(answer.problem(), "404 executor_not_found -");
    }
}
