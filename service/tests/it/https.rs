//! The service over TLS, and executors over TLS.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    path::Path,
    time::Duration,
};

use nightshift::{
    clock::{Clock, SystemClock, later},
    domain::Timestamp,
};
use nightshift_client::types::TaskStatus;
use reqwest::{Certificate, Client, Version};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::support::{
    app::{Builder, SECRET, TestApp},
    metrics::Samples,
    process::binary,
    soon,
    tls::{self, certify, certify_until},
    until,
};

fn with_tls(folder: &Path) -> Builder {
    tls::with_tls(Builder::sqlite(), folder)
}

/// Trusts this authority and no other.
fn trusting(authority: &Certificate) -> reqwest::ClientBuilder {
    Client::builder().tls_certs_only([authority.clone()])
}

async fn health(app: &TestApp, client: &Client) -> reqwest::Result<reqwest::Response> {
    client.get(format!("{}/healthz", app.server)).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_speaks_https_only() {
    let folder = tempfile::tempdir().unwrap();
    let authority = certify(folder.path());
    let app = with_tls(folder.path()).start();
    let client = trusting(&authority).build().unwrap();
    assert_eq!(health(&app, &client).await.unwrap().version(), Version::HTTP_11);
    // Of which the server would bound neither streams nor time.
    let client_of_two = trusting(&authority).http2_prior_knowledge().build().unwrap();
    assert!(health(&app, &client_of_two).await.is_err());
    assert!(health(&app, &Client::new()).await.is_err(), "nobody vouches for it");
    let plain = app.server.replace("https", "http");
    assert!(Client::new().get(format!("{plain}/healthz")).send().await.is_err());
    let evil = client.get(format!("{}/stats", app.server)).header("host", "evil.example");
    assert_eq!(evil.send().await.unwrap().status(), 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let old = certify(folder.path());
    let app = with_tls(folder.path()).start();
    let before = trusting(&old).build().unwrap();
    health(&app, &before).await.unwrap();
    let new = certify(folder.path());
    until("the new certificate", || async {
        health(&app, &trusting(&new).build().unwrap()).await.ok()
    })
    .await;
    assert!(health(&app, &trusting(&old).build().unwrap()).await.is_err());
    health(&app, &before).await.expect("open connections go on");
}

/// The doctor's words on the certificate.
async fn examined(folder: &Path) -> (String, String) {
    let mut command = binary();
    command.args(["doctor", "--json", "--tls-certificate", "cert.pem", "--tls-key", "key.pem"]);
    let output = soon("the doctor", command.current_dir(folder).output()).await.unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "certificate").unwrap();
    let text = |name: &str| check[name].as_str().unwrap().to_owned();
    (text("status"), text("message"))
}

/// The day in so many days, and its first second.
fn day_in(days: u64) -> ((i32, u8, u8), i64) {
    let then = later(SystemClock::default().now(), Duration::from_hours(24 * days));
    let day = then.to_string()[..10].to_owned();
    let begins: Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
    let mut parts = day.split('-');
    let mut part = || parts.next().unwrap();
    let parts = (part().parse().unwrap(), part().parse().unwrap(), part().parse().unwrap());
    (parts, begins.as_second())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_certificate_is_said_before_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (ended, soon_over, long) = ((2024, 2, 29), day_in(20), day_in(400));
    certify_until(folder.path(), ended);
    let (status, message) = examined(folder.path()).await;
    assert_eq!(status, "fail");
    assert!(
        message.ends_with("it ended at 2024-02-29T00:00:00Z, and clients refuse it"),
        "{message}"
    );

    certify_until(folder.path(), soon_over.0);
    let (status, message) = examined(folder.path()).await;
    assert_eq!(status, "warn");
    assert!(message.contains("it ends at ") && message.contains(" in 19 days"), "{message}");

    let app = with_tls(folder.path()).start();
    let ends = async |app: &TestApp| {
        let certificate = std::fs::read(folder.path().join("cert.pem")).unwrap();
        let client = trusting(&Certificate::from_pem(&certificate).unwrap()).build().unwrap();
        let text = client.get(format!("{}/metrics", app.server)).send().await.ok()?.text().await;
        let name = "nightshift_certificate_expiry_timestamp_seconds ";
        let text = text.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
    };
    until("the end of the first", || async {
        (ends(&app).await? == soon_over.1.to_string()).then_some(())
    })
    .await;
    certify_until(folder.path(), long.0);
    assert_eq!(examined(folder.path()).await.0, "ok");
    until("the end of the next", || async {
        (ends(&app).await? == long.1.to_string()).then_some(())
    })
    .await;
    let plain = Samples::of(&Builder::sqlite().start()).await;
    let without = plain.0["nightshift_certificate_expiry_timestamp_seconds"];
    assert!(without.abs() < 0.5, "{without}");
}

/// Sends a request, then nothing more ever, and returns all that comes back.
fn send_and_leave(folder: &Path, address: &str, request: &str) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut tls = ClientConnection::new(config.into(), "localhost".try_into().unwrap()).unwrap();
    let mut tcp = TcpStream::connect(address).unwrap();
    rustls::Stream::new(&mut tls, &mut tcp).write_all(request.as_bytes()).unwrap();
    tls.send_close_notify();
    tls.complete_io(&mut tcp).unwrap();
    tcp.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // The service may leave without saying so.
    rustls::Stream::new(&mut tls, &mut tcp).read_to_end(&mut answer).ok();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_went_away_is_noticed_below_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = certify(folder.path());
    let app = with_tls(folder.path()).start();
    let client = trusting(&authority).build().unwrap();
    let worker = client.put(format!("{}/executors/w", app.server));
    let worker = worker.header("content-type", "application/json");
    let worker = worker.body(r#"{"kind":"worker","task_paths":["*"]}"#).send().await.unwrap();
    assert_eq!(worker.status(), 201);
    let address = app.server.trim_start_matches("https://").to_owned();
    let ask = r#"{"worker_id":"gone","wait_seconds":60}"#;
    let request = format!(
        "POST /executors/w/leases HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\
         content-type: application/json\r\n\r\n{ask}",
        ask.len()
    );
    let path = folder.path().to_owned();
    let asking = tokio::task::spawn_blocking(move || send_and_leave(&path, &address, &request));
    let answer = soon("an answer to nobody", asking).await.unwrap();
    assert!(answer.is_empty() || answer.ends_with(r#"{"leases":[]}"#), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_the_operators_is_trusted_for_executors() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    // It answers like any HTTPS server that is no executor.
    let executor = with_tls(folder.path()).start();
    let register = async |app: &TestApp| {
        let body = format!(
            r#"{{"kind":"http","task_paths":["*"],"url":"{}/healthz","secret":"{SECRET}"}}"#,
            executor.server
        );
        let put = app.request("PUT", "/executors/exec").header("content-type", "application/json");
        assert!(app.send(put.body(body)).await.status < 300);
        app.enqueue("a.b").await.id
    };
    let app = Builder::sqlite().start();
    register(&app).await;
    let hold = until("a failed delivery", || async {
        app.client.get_executor("exec").await.unwrap().hold
    })
    .await;
    assert!(hold.reason.contains("certificate"), "{hold:?}");

    let mut app = Builder::sqlite();
    app.config.executor_ca = Some(folder.path().join("cert.pem"));
    let app = app.start();
    let task = register(&app).await;
    let task = app.end(task).await;
    assert_eq!(task.status, TaskStatus::Failed);
    assert!(task.errors[0].message.contains("this route takes GET"), "{:?}", task.errors);
}
