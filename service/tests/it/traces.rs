//! Traces: what an OTLP receiver gets to see of a task.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};
use nightshift_client::{
    EnqueueOptions,
    types::{Backoff, TaskRequest, TaskStatus},
};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use tokio::net::TcpListener;

use crate::support::{
    app::{Builder, SECRET, TestApp, json},
    database::Database,
    executor::{Call, Reply, TestExecutor},
    on_both_engines,
    otlp::{Receiver, attributes, hex},
    process::Service,
    proxy::{Mode, Proxy},
    soon,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A task by somebody whose own span has these flags.
async fn enqueue(app: &TestApp, request: &TaskRequest, flags: &str) -> uuid::Uuid {
    let options = EnqueueOptions {
        traceparent: Some(format!("00-{TRACE}-{CALLER}-{flags}")),
        ..EnqueueOptions::default()
    };
    app.client.create_task(request, &options).await.unwrap().task.id
}

/// Fails at first, with what nobody is to see.
fn second_time_lucky(call: &Call) -> Reply {
    match call.message().data.attempt {
        1 => Reply::with(500, r#"{"title":"pineapple"}"#),
        _ => Reply::ok(r#""pineapple""#),
    }
}

fn with_payload() -> TaskRequest {
    TaskRequest {
        queue_name: Some("sky".to_owned()),
        args: json(r#"["pineapple"]"#),
        labels: BTreeMap::from([("fruit".to_owned(), "pineapple".to_owned())]),
        backoff: Some(Backoff { initial_seconds: Some(0.0), ..Backoff::default() }),
        ..TaskRequest::new("a.b")
    }
}

fn traced(mut builder: Builder, endpoint: &str) -> Builder {
    builder.config.otlp_endpoint = Some(endpoint.to_owned());
    builder
}

/// The spans of this name, in the order of their beginning.
fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    let mut found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    found.sort_by_key(|span| span.start_time_unix_nano);
    found
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32)
}

on_both_engines! {
    async fn a_task_is_part_of_its_enqueuer_s_trace(builder: App) {
        let receiver = Receiver::start().await;
        let executor = TestExecutor::start(second_time_lucky).await;
        let app = traced(builder, &receiver.url).start();
        app.register(&executor).await;
        let id = enqueue(&app, &with_payload(), "01").await;
        assert_eq!(app.end(id).await.status, TaskStatus::Successful);
        let _database = app.stop().await;

        let spans = receiver.spans();
        assert_eq!(spans.len(), 7, "{spans:#?}");
        assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:#?}");
        let [request] = named(&spans, "POST /tasks")[..] else { panic!("{spans:#?}") };
        assert_eq!(hex(&request.parent_span_id), CALLER);
        assert_eq!(request.kind, SpanKind::Server as i32);
        let attempts = named(&spans, "attempt");
        let calls = named(&spans, "call executor");
        let waits = named(&spans, "waiting");
        assert_eq!([attempts.len(), calls.len(), waits.len()], [2, 2, 2]);
        let (first, again) = (attempts[0].start_time_unix_nano, waits[1].start_time_unix_nano);
        assert!(first <= again, "what it waited for is the next attempt alone");
        for (number, ((attempt, call), wait)) in
            (1..).zip(attempts.into_iter().zip(calls).zip(waits))
        {
            assert_eq!(attempt.parent_span_id, request.span_id);
            assert_eq!(wait.parent_span_id, request.span_id);
            assert_eq!(call.parent_span_id, attempt.span_id);
            assert_eq!(call.kind, SpanKind::Client as i32);
            assert!(wait.end_time_unix_nano <= attempt.start_time_unix_nano);
            assert!(call.end_time_unix_nano <= attempt.end_time_unix_nano);
            let about = attributes(call);
            let outcome = if number == 1 { "failed" } else { "successful" };
            for (name, value) in [
                ("task.id", id.to_string()),
                ("task.path", "a.b".to_owned()),
                ("queue.name", "sky".to_owned()),
                ("executor.name", "exec".to_owned()),
                ("executor.kind", "http".to_owned()),
                ("attempt.number", number.to_string()),
                ("attempt.outcome", outcome.to_owned()),
            ] {
                assert_eq!(about.get(name), Some(&value), "{name}");
            }
            assert_eq!([failed(call), failed(attempt)], [number == 1; 2]);
            let sent = &executor.calls()[number - 1].headers["traceparent"];
            assert_eq!(*sent, format!("00-{TRACE}-{}-01", hex(&call.span_id)));
        }
        let all = String::from_utf8_lossy(&receiver.bytes()).into_owned();
        assert!(all.contains("nightshift"));
        for hidden in ["pineapple", SECRET] {
            assert!(!all.contains(hidden), "{hidden}");
        }
    }

    async fn a_trace_that_is_not_sampled_is_handed_on_and_not_sent(builder: App) {
        let receiver = Receiver::start().await;
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let app = traced(builder, &receiver.url).start();
        app.register(&executor).await;
        let id = enqueue(&app, &TaskRequest::new("a"), "00").await;
        app.end(id).await;
        let _database = app.stop().await;
        assert!(receiver.spans().is_empty());
        let sent = &executor.calls()[0].headers["traceparent"];
        assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-00"), "{sent}");
        assert!(!sent.contains(CALLER), "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_and_workers_are_traced() {
    let receiver = Receiver::start().await;
    let app = traced(Builder::sqlite(), &receiver.url).start();
    let worker = app.register_workers("w", |_| {}).await;
    let batch = r#"{"tasks":[{"task_path":"a"},{"task_path":"b"}]}"#;
    assert_eq!(app.post("/tasks/batch", batch).await.status, 201);
    let leases = worker.lease(10).await;
    let _database = app.stop().await;
    let spans = receiver.spans();
    let [request] = named(&spans, "POST /tasks/batch")[..] else { panic!("{spans:#?}") };
    assert_eq!(attributes(request)["batch.tasks"], "2");
    assert!(request.parent_span_id.is_empty(), "a trace of its own");
    let waits = named(&spans, "waiting");
    assert_eq!(waits.len(), 2);
    assert!(waits.iter().all(|wait| wait.parent_span_id == request.span_id));
    let named = format!("00-{}-{}-01", hex(&request.trace_id), hex(&request.span_id));
    assert!(leases.iter().all(|lease| lease.traceparent.as_deref() == Some(&named)));
}

/// By OpenTelemetry's conventions for HTTP, what a client did wrong is no error of a server's span.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_service_fails_is_an_error() {
    let receiver = Receiver::start().await;
    let database = Database::postgres();
    let (proxy, url) = Proxy::before(&database.url()).await;
    let mut builder = traced(Builder::on(database), &receiver.url);
    builder.config.database_url = url;
    let app = builder.start();
    assert_eq!(app.post("/tasks", r#"{"task_path":""}"#).await.status, 422);
    proxy.set(Mode::Cut);
    assert_eq!(app.post("/tasks", r#"{"task_path":"a"}"#).await.status, 503);
    assert_eq!(app.post("/tasks/batch", r#"{"tasks":[{"task_path":"a"}]}"#).await.status, 503);
    drop(app.stop().await);
    let spans = receiver.spans();
    let went = |name: &str| named(&spans, name).into_iter().map(failed).collect::<Vec<_>>();
    assert_eq!(went("POST /tasks"), [false, true]);
    assert_eq!(went("POST /tasks/batch"), [true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_away_or_hangs_holds_nothing_up() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for address in [hanging.local_addr().unwrap(), closed] {
        let executor = TestExecutor::start(|_| Reply::ok("1")).await;
        let app = traced(Builder::sqlite(), &format!("http://{address}")).start();
        app.register(&executor).await;
        // More than are sent at once, and more than may wait.
        let tasks = stream::iter(0..2_200).map(|_| app.enqueue("a")).buffer_unordered(20);
        for task in tasks.collect::<Vec<_>>().await {
            app.end(task.id).await;
        }
        let stopping = tokio::time::timeout(Duration::from_secs(20), app.stop());
        let _database = soon("the stop", stopping).await.expect("it waits for no receiver");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_usual_variables_name_the_service() {
    for (variable, name) in [
        (None, "nightshift"),
        (Some(("OTEL_SERVICE_NAME", "tom")), "tom"),
        (Some(("OTEL_RESOURCE_ATTRIBUTES", "service.name=sky")), "sky"),
    ] {
        let receiver = Receiver::start().await;
        let folder = tempfile::tempdir().unwrap();
        let mut variables = vec![("NIGHTSHIFT_OTLP_ENDPOINT", receiver.url.clone().into())];
        variables.extend(variable.map(|(variable, value)| (variable, value.into())));
        let service = Service::start_with_variables(folder.path(), &variables).await;
        let request = TaskRequest::new("a.b");
        service.client.create_task(&request, &EnqueueOptions::default()).await.unwrap();
        service.signal("TERM");
        assert_eq!(service.exited().await.0, Some(0));
        assert_eq!(receiver.services(), [name], "{variable:?}");
    }
}
