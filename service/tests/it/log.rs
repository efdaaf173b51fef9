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
use tokio::net::TcpListener;

use crate::support::{
    SOON,
    app::{SECRET, json},
    executor::{Reply, TestExecutor},
    on_both_engines,
    process::Service,
    until,
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

#[tokio::test(flavor = "multi_thread")]
async fn a_request_s_line_says_who_asked_and_for_what() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nightshift.toml"), "log = \"debug\"\n").unwrap();
    let service = Service::start(folder.path(), "127.0.0.1:0", &[]).await;
    let client = &service.client;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let options =
        EnqueueOptions { traceparent: Some(traceparent.to_owned()), ..EnqueueOptions::default() };
    let traced = client.create_task(&request("w.b"), &options).await.unwrap().task.id;
    client.get_task_status(traced).await.unwrap();
    service.signal("TERM");
    let (_, log) = service.exited().await;
    let answered = |route: &str| -> Value {
        let mut lines = log.lines().filter(|line| line.contains(&traced.to_string()));
        let found = lines.find(|line| line.contains(&format!(r#""route":"{route}""#)));
        serde_json::from_str(found.unwrap_or_else(|| panic!("{route}: {log}"))).unwrap()
    };
    let made = answered("/tasks");
    assert_eq!((&made["status"], &made["task.id"]), (&201.into(), &traced.to_string().into()));
    assert_eq!(made["trace.id"], "0af7651916cd43dd8448eb211c80319c");
    let asked = answered("/tasks/{id}/status");
    assert_eq!((&asked["message"], &asked["trace.id"]), (&"answered".into(), &Value::Null));
    for line in [made, asked] {
        assert_eq!(line["client.address"], "127.0.0.1", "{line}");
        assert_eq!(line["token.name"], "anybody", "{line}");
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0, "{line}");
    }
}

on_both_engines! {
    async fn an_executor_that_is_away_is_told_once_and_once_when_it_is_back(builder: App) {
        let folder = tempfile::tempdir().unwrap();
        let service = Service::start_on(folder.path(), "127.0.0.1:0", &builder.config.database_url);
        let service = service.await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let away = ExecutorRequest {
            task_paths: vec!["*".to_owned()],
            url: Some(format!("http://{address}/")),
            secret: Some(SECRET.to_owned()),
            ..ExecutorRequest::default()
        };
        service.client.put_executor("away", &away).await.unwrap();
        let made = service.client.create_task(&request("a.b"), &EnqueueOptions::default()).await;
        let id = made.unwrap().task.id;
        let told = |text: &str| -> Vec<Value> {
            let log = service.log_so_far();
            let lines = log.lines().filter(|line| line.contains(text));
            lines.map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let fails = "deliveries to an executor fail; its tasks wait, and it is tried again";
        until("a word of it", || async { (!told(fails).is_empty()).then_some(()) }).await;
        // More attempts say nothing more.
        let failures = || async {
            let metrics = service.client.get_metrics().await.unwrap();
            let name = r#"nightshift_attempts_total{executor="away",outcome="unreachable"} "#;
            let number = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            number.parse::<u32>().ok().filter(|number| *number >= 4)
        };
        until("more attempts", failures).await;
        let _executor =
            TestExecutor::on(TcpListener::bind(address).await.unwrap(), |_| Reply::ok("1"));
        assert!(service.client.get_task(id, Some(SOON)).await.unwrap().status.is_finished());
        let back = "an executor can be reached again";
        until("a word of it", || async { (!told(back).is_empty()).then_some(()) }).await;
        assert_eq!((told(back).len(), &told(back)[0]["level"]), (1, &"INFO".into()));
        let said = told(fails);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!((&said[0]["level"], &said[0]["executor.name"]), (&"WARN".into(), &"away".into()));
        assert!(said[0]["reason"].as_str().unwrap().contains("refused"), "{said:?}");
    }
}
