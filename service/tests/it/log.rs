//! The log of the real binary: one JSON object a line, and nothing in it that is nobody's business.

use std::fs;

use nightshift_client::{
    EnqueueOptions,
    types::{
        ErrorReport, ExecutorKind, ExecutorRequest, FinishRequest, LeaseRequest, LogLevel,
        LogLineRequest, RenewRequest, TaskRequest,
    },
};
use serde_json::Value;

use crate::support::{
    SOON,
    app::{SECRET, json},
    executor::{Reply, TestExecutor},
    process::Service,
};

/// Stands for whatever nobody is to see.
const PAYLOAD: &str = "pineapple";

fn request(path: &str) -> TaskRequest {
    TaskRequest {
        args: json(r#"["pineapple"]"#),
        kwargs: json(r#"{"fruit":"pineapple"}"#),
        max_attempts: Some(1),
        ..TaskRequest::new(path)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_json_and_holds_no_payload_secret_or_token() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nightshift.toml"), "log = \"debug\"\n").unwrap();
    let executor = TestExecutor::start(|call| match call.message().data.task_path.as_str() {
        "h.good" => Reply::ok(r#""pineapple""#),
        "h.garbage" => Reply::ok("pineapple"),
        "h.hang" => Reply::Hang,
        _ => Reply::with(500, r#"{"title":"pineapple","traceback":"pineapple"}"#),
    })
    .await;
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let client = &service.client;
    let http = ExecutorRequest {
        task_paths: vec!["h.*".to_owned()],
        url: Some(executor.url()),
        secret: Some(SECRET.to_owned()),
        ..ExecutorRequest::default()
    };
    client.put_executor("http", &http).await.unwrap();
    let worker = ExecutorRequest {
        kind: ExecutorKind::Worker,
        task_paths: vec!["w.*".to_owned()],
        ..ExecutorRequest::default()
    };
    client.put_executor("worker", &worker).await.unwrap();
    let enqueue = async |path: &str| {
        let options = EnqueueOptions::default();
        client.create_task(&request(path), &options).await.unwrap().task.id
    };
    for path in ["h.good", "h.garbage", "h.bad"] {
        let id = enqueue(path).await;
        assert!(client.get_task(id, Some(SOON)).await.unwrap().status.is_finished());
    }
    let hanging = enqueue("h.hang").await;
    let mut tokens = vec![executor.called_for_execution(4).await.message().data.lease.token];
    client.cancel_task(hanging, true).await.unwrap();
    client.get_task(hanging, Some(SOON)).await.unwrap();
    enqueue("w.a").await;
    let ask = LeaseRequest { worker_id: "w1".to_owned(), ..LeaseRequest::default() };
    let lease = client.lease_tasks("worker", &ask).await.unwrap().leases.remove(0);
    let line = LogLineRequest { at: None, level: LogLevel::Info, message: PAYLOAD.to_owned() };
    let renewal = RenewRequest { logs: vec![line], ..RenewRequest::default() };
    client.renew_lease(&lease.token, &renewal).await.unwrap();
    let error = ErrorReport { message: Some(PAYLOAD.to_owned()), ..ErrorReport::default() };
    let end = FinishRequest { error: Some(error), ..FinishRequest::default() };
    client.finish_lease(&lease.token, &end).await.unwrap();
    client.finish_lease(&lease.token, &end).await.unwrap_err();
    tokens.push(lease.token);
    service.signal("TERM");
    let (_, log) = service.exited().await;

    assert!(log.lines().count() > 20, "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for field in ["timestamp", "level", "target"] {
            assert!(line[field].is_string(), "{field} {line}");
        }
    }
    let has = |field: &str| log.contains(&format!("\"{field}\":"));
    assert!(has("task.id") && has("route") && has("status"), "{log}");
    let secrets = [PAYLOAD.to_owned(), SECRET.to_owned()];
    for hidden in secrets.iter().chain(&tokens) {
        let told: Vec<&str> = log.lines().filter(|line| line.contains(hidden)).collect();
        assert!(told.is_empty(), "{hidden}: {told:#?}");
    }
}
