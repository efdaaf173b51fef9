//! The service over TLS, and executors over TLS.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    path::Path,
};

use nightshift_client::types::TaskStatus;
use reqwest::{Certificate, Client, Version};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::support::{
    app::{Builder, SECRET, TestApp},
    soon,
    tls::{self, certify},
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
