//! The Rust client at its most convenient, and its examples.

use std::{net::TcpListener, time::Duration};

use nightshift_client::{
    Client, EnqueueOptions, Error, Retry, WaitError,
    types::{
        Backoff, ErrorCode, ExecutorKind, ExecutorRequest, LeaseRequest, Task, TaskRequest,
        TaskStatus,
    },
    webhook::Verifier,
    worker::Stop,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    app::{SECRET, value},
    executor::{Reply, TestExecutor},
    on_both_engines,
    process::Service,
    soon,
};

#[path = "../../../client/examples/enqueue.rs"]
#[expect(dead_code, reason = "its main function is for people")]
mod enqueue_example;
#[path = "../../../client/examples/executor.rs"]
mod executor_example;
#[path = "../../../client/examples/worker.rs"]
#[expect(dead_code, reason = "its main function is for people")]
mod worker_example;

#[derive(serde::Deserialize)]
struct Found {
    stars: Vec<f64>,
}

/// A way to the service on which the first answer is lost.
async fn losing_the_first_answer(server: &str) -> String {
    let target = server.trim_start_matches("http://").to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut service = TcpStream::connect(&target).await.unwrap();
            if connection > 0 {
                tokio::io::copy_bidirectional(&mut client, &mut service).await.ok();
                continue;
            }
            let mut request = [0; 4096];
            let length = client.read(&mut request).await.unwrap();
            service.write_all(&request[..length]).await.unwrap();
            // Once it answers, it has stored what it was asked to.
            assert!(service.read(&mut request).await.unwrap() > 0);
        }
    });
    format!("http://{address}")
}

on_both_engines! {
    async fn a_task_is_put_together_and_waited_for(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| Reply::ok(r#"{"stars": [1e-7, 2]}"#)).await;
        app.register(&executor).await;
        let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let handle = app.client
            .enqueue("sky.find")
            .args(("m31.fits", 5))
            .kwargs(serde_json::json!({"deep": true}))
            .queue_name("slow")
            .priority(7)
            .run_after(start)
            .expires_at("2126-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap())
            .timeout(Duration::from_millis(1_500))
            .max_attempts(2)
            .backoff(Backoff { initial_seconds: Some(1.0), ..Backoff::default() })
            .label("target", "m31")
            .unique_key("m31")
            .traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .send()
            .await
            .unwrap();
        let found: Found = soon("a result", handle.wait()).await.unwrap();
        assert_eq!(found.stars, [1e-7, 2.0]);
        let task: Task = app.task(handle.id()).await;
        assert_eq!((task.args.as_str(), task.kwargs.as_str()), (r#"["m31.fits",5]"#, r#"{"deep":true}"#));
        assert_eq!((task.queue_name.as_str(), task.priority), ("slow", 7));
        assert_eq!((task.timeout_seconds, task.max_attempts), (1.5, 2));
        assert_eq!(task.labels["target"], "m31");
        assert_eq!(task.unique_key.as_deref(), Some("m31"));
        assert!(task.expires_at.is_some());
        assert_eq!(task.backoff.initial_seconds, Some(1.0));
        assert!(executor.calls()[0].headers["traceparent"].contains("0af7651916cd43dd"));
        assert_eq!(handle.status().await.unwrap().status, TaskStatus::Successful);
        assert_eq!(handle.result().await.unwrap().return_value.unwrap().as_str(), r#"{"stars": [1e-7, 2]}"#);
        let error = handle.wait::<String>().await.unwrap_err();
        assert!(matches!(error, WaitError::Unreadable { .. }), "{error:?}");
    }

    async fn what_did_not_succeed_is_a_typed_error(app: App) {
        let app = app.start();
        let executor = TestExecutor::start(|_| {
            Reply::with(422, r#"{"exception_class_path": "sky.Dark", "message": "no stars"}"#)
        }).await;
        app.register_as("sky", &executor, |r| r.task_paths = vec!["sky.*".to_owned()]).await;
        let failed = soon("a failure", app.client.enqueue("sky.find").wait::<()>()).await.unwrap_err();
        let WaitError::Failed { id, errors } = &failed else { panic!("{failed:?}") };
        assert_eq!(errors[0].exception_class_path.as_deref(), Some("sky.Dark"));
        assert_eq!(failed.to_string(), format!("task {id} failed: sky.Dark: no stars"));
        let waits = app.client.enqueue("unrouted").send().await.unwrap();
        let error = waits.wait_within::<()>(Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, WaitError::NotEnded { id, .. } if id == waits.id()), "{error:?}");
        assert_eq!(waits.cancel().await.unwrap().status, TaskStatus::Cancelled);
        let error = soon("the end", waits.wait::<()>()).await.unwrap_err();
        assert!(matches!(error, WaitError::Cancelled { .. }), "{error:?}");
    }

    async fn a_lost_answer_enqueues_no_second_task(app: App) {
        let app = app.start();
        let way = losing_the_first_answer(&app.server).await;
        let client = Client::new(&way).unwrap();
        let task = soon("enqueuing", client.enqueue("a.b").send()).await.unwrap();
        assert_eq!(app.task(task.id()).await.status, TaskStatus::Ready);
        assert_eq!(app.count().await, 1);
        // Without an id nobody can tell, and so the caller has to know.
        let way = losing_the_first_answer(&app.server).await;
        let request = TaskRequest::new("a.c");
        let enqueuing = Client::new(&way).unwrap();
        let error = enqueuing.create_task(&request, &EnqueueOptions::default()).await.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
        assert_eq!(app.count().await, 2);
    }

    async fn keys_and_ids_of_the_caller_are_kept(app: App) {
        let app = app.start();
        let id = uuid::Uuid::now_v7();
        let chosen = app.client.enqueue("a.b").id(id).send().await.unwrap();
        assert_eq!(chosen.id(), id);
        let keyed = || app.client.enqueue("a.b").idempotency_key("k").send();
        assert_eq!(keyed().await.unwrap().id(), keyed().await.unwrap().id());
        let error = app.client.enqueue("a.c").id(id).send().await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::IdConflict));
        assert_eq!(app.client.task_handle(id).status().await.unwrap().id, id);
    }

    async fn the_examples_work(app: App) {
        let app = app.start();
        let stop = Stop::default();
        let worker = tokio::spawn({
            let (worker, stop) = (worker_example::worker(app.client.clone()), stop.clone());
            async move { worker.run_until(&stop).await }
        });
        assert_eq!(soon("a sum", enqueue_example::sum(&app.client)).await.unwrap(), 42);
        stop.drain();
        soon("the end of the worker", worker).await.unwrap().unwrap();
        // The same task path, but called.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let request = ExecutorRequest {
            kind: ExecutorKind::Http,
            task_paths: vec!["sky.add".to_owned()],
            url: Some(url.clone()),
            secret: Some(SECRET.to_owned()),
            ..ExecutorRequest::default()
        };
        app.client.put_executor("sky", &request).await.unwrap();
        let server = executor_example::server(listener, Verifier::new(SECRET).unwrap()).unwrap();
        let (handle, serving) = (server.handle(), tokio::spawn(server));
        assert_eq!(soon("a sum", enqueue_example::sum(&app.client)).await.unwrap(), 42);
        let forged = app.send(reqwest::Client::new().post(url).body("{}")).await;
        assert_eq!(forged.status, 401, "{forged:?}");
        handle.stop(true).await;
        serving.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_outlasts_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let request = ExecutorRequest {
        kind: ExecutorKind::Worker,
        task_paths: vec!["*".to_owned()],
        ..ExecutorRequest::default()
    };
    service.client.put_executor("tom", &request).await.unwrap();
    let client = service.client.clone().with_retry(Retry::default());
    let waits = client.enqueue("a.b").send().await.unwrap();
    let waiting = tokio::spawn(async move { waits.wait::<i64>().await });
    let bind = service.bind();
    service.kill().await;
    let enqueuing = tokio::spawn(async move { client.enqueue("a.c").send().await });
    let service = Service::start(folder.path(), &bind, &[]).await;
    soon("enqueuing", enqueuing).await.unwrap().unwrap();
    let request = LeaseRequest {
        worker_id: "w".to_owned(),
        wait_seconds: Some(5),
        ..LeaseRequest::default()
    };
    let lease = service.client.lease_tasks("tom", &request).await.unwrap().leases.remove(0);
    service.client.finish_lease(&lease.token, &value("7")).await.unwrap();
    assert_eq!(soon("the result", waiting).await.unwrap().unwrap(), 7);
}
