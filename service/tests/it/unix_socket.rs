//! A service that listens on a Unix socket.

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};

use nightshift_client::{
    EnqueueOptions,
    types::{ExecutorKind, ExecutorRequest, LeaseRequest, TaskRequest},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::support::{
    process::{Service, binary},
    soon,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_commands_and_workers_come_in_by_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nightshift.sock");
    let bind = format!("unix:{}", path.display());
    let service = Service::start(folder.path(), &bind, &["--public-url", "http://tom.lan"]).await;
    assert_eq!(service.server, bind);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(service.run(&["health"]).await.status.code(), Some(0));
    let executor = ["executor", "put", "sh", "--task-path", "*"];
    assert_eq!(service.run(&executor).await.status.code(), Some(0));
    let mut worker = binary()
        .args(["--server", &bind, "worker", "--executor", "sh", "--max-tasks", "1", "--"])
        .args(["sh", "-c", "echo ${NIGHTSHIFT_LEASE_URL:-none}"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = service.run(&["enqueue", "a.b", "--wait"]).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "\"none\"\n");
    soon("the end of the worker", worker.wait()).await.unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let doctor = ["doctor", "--json", "--bind", &bind, "--database-url", &url];
    let report = soon("the doctor", binary().args(doctor).output()).await.unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let ready = checks.iter().find(|check| check["name"] == "service").unwrap();
    assert_eq!(ready["message"], format!("{bind} is ready"), "{report:#}");
    service.signal("TERM");
    assert_eq!(service.exited().await.0, Some(0));
    assert!(!path.exists(), "it is taken away at the stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_went_away_is_noticed_on_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nightshift.sock");
    let service = Service::start(folder.path(), &format!("unix:{}", path.display()), &[]).await;
    let request = ExecutorRequest {
        kind: ExecutorKind::Worker,
        task_paths: vec!["*".to_owned()],
        ..ExecutorRequest::default()
    };
    service.client.put_executor("w", &request).await.unwrap();
    let ask = r#"{"worker_id":"gone","wait_seconds":50}"#;
    let request = format!(
        "POST /executors/w/leases HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\
         content-type: application/json\r\n\r\n{ask}",
        ask.len()
    );
    let mut gone = UnixStream::connect(&path).await.unwrap();
    gone.write_all(request.as_bytes()).await.unwrap();
    gone.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("the end of the wait", gone.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.is_empty() || answer.ends_with(r#"{"leases":[]}"#), "{answer}");
    let options = EnqueueOptions::default();
    service.client.create_task(&TaskRequest::new("a.b"), &options).await.unwrap();
    let ask = LeaseRequest { worker_id: "w1".to_owned(), ..LeaseRequest::default() };
    assert_eq!(service.client.lease_tasks("w", &ask).await.unwrap().leases.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_was_left_behind_is_replaced_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nightshift.sock");
    let bind = format!("unix:{}", path.display());
    let service = Service::start(folder.path(), &bind, &[]).await;
    let refused = async |arguments: &[&str]| {
        let mut command = binary();
        command.args(["serve", "--bind", &bind, "--database-url", "sqlite://other.db"]);
        let output = command.args(arguments).current_dir(folder.path()).output();
        let output = soon("the end of a start", output).await.unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&[]).await;
    assert!(said.contains("another process listens on "), "{said}");
    service.client.get_readiness().await.unwrap();
    service.kill().await;
    assert!(path.exists());
    let service = Service::start(folder.path(), &bind, &[]).await;
    service.client.get_readiness().await.unwrap();
    service.signal("TERM");
    assert_eq!(service.exited().await.0, Some(0));
    fs::write(&path, "somebody's work").unwrap();
    let said = refused(&[]).await;
    assert!(said.contains("cannot listen on unix:"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's work");
    let said = refused(&["--tls-certificate", "cert.pem", "--tls-key", "key.pem"]).await;
    assert!(said.contains("TLS is not spoken on a Unix socket"), "{said}");
}
