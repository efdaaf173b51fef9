//! Who gets in, and how far: by which name, from which page, in which shape, how slowly.

use std::time::{Duration, Instant};

use nightshift::config::Hidden;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    app::{Builder, TestApp},
    process::binary,
    soon,
};

/// All that comes back on a connection until the service closes it.
async fn raw(app: &TestApp, request: &[u8]) -> String {
    let mut stream = connect(app).await;
    // It may be closed before all is sent.
    stream.write_all(request).await.ok();
    let mut answer = Vec::new();
    soon("the end of a connection", stream.read_to_end(&mut answer)).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn connect(app: &TestApp) -> TcpStream {
    let (_, port) = app.server.rsplit_once(':').unwrap();
    TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap()
}

/// The status of a GET that names the service so.
async fn get_as(app: &TestApp, path: &str, host: &str) -> u16 {
    let request = format!("GET {path} HTTP/1.1\r\n{host}connection: close\r\n\r\n");
    status(&raw(app, request.as_bytes()).await)
}

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_made_to_lead_here_is_refused() {
    let mut app = Builder::sqlite();
    app.config.public_url = Some("https://tasks.example.org/".to_owned());
    app.config.allowed_hosts = vec!["Queue.lan".to_owned(), "*.obs.example".to_owned()];
    let app = app.start();
    for (host, expected) in [
        ("host: localhost\r\n", 200),
        ("host: LOCALHOST:1\r\n", 200),
        ("host: 127.0.0.1:8700\r\n", 200),
        ("host: [::1]:8700\r\n", 200),
        ("host: tasks.example.org\r\n", 200),
        ("host: queue.lan:80\r\n", 200),
        ("host: a.b.obs.example.\r\n", 200),
        ("host: obs.example\r\n", 421),
        ("host: evilobs.example\r\n", 421),
        ("host: evil.example\r\nx-forwarded-host: localhost\r\n", 421),
        ("host: evil.example\r\nforwarded: host=localhost\r\n", 421),
        ("host: localhost.evil.example\r\n", 421),
        ("host: 192.168.1.1\r\n", 421),
        ("host: evil.example@localhost\r\n", 400),
        ("host: a b\r\n", 400),
        ("host: \r\n", 400),
        ("host: localhost\r\nhost: evil.example\r\n", 400),
        ("", 400),
    ] {
        for path in ["/stats", "/healthz", "/docs/", "/nowhere"] {
            let expected = if (path, expected) == ("/nowhere", 200) { 404 } else { expected };
            assert_eq!(get_as(&app, path, host).await, expected, "{path} {host:?}");
        }
    }
    let absolute = "GET http://evil.example/stats HTTP/1.1\r\nhost: localhost\r\n\
                    connection: close\r\n\r\n";
    assert_eq!(status(&raw(&app, absolute.as_bytes()).await), 421, "the target counts, too");
    for (target, host, expected) in [
        ("localhost", "host: localhost\r\n", 200),
        ("tasks.example.org", "host: tasks.example.org\r\n", 200),
        ("localhost", "host: evil.example\r\n", 421),
        ("evil.example", "host: evil.example\r\n", 421),
        ("localhost@evil.example", "host: localhost\r\n", 400),
        ("evil.example@localhost", "host: localhost\r\n", 400),
        // HTTP/1.1 has one in any case (RFC 9112, section 3.2).
        ("localhost", "", 400),
    ] {
        let request =
            format!("GET http://{target}/stats HTTP/1.1\r\n{host}connection: close\r\n\r\n");
        let answer = raw(&app, request.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{target} {host:?}: {answer}");
    }
    let old = raw(&app, b"GET /stats HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&old), 200, "no browser speaks HTTP/1.0, and old probes do");
    let request = app.request("GET", "/stats").header("host", "evil.example");
    assert_eq!(app.send(request).await.problem(), "421 unknown_host -");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_looked_at_elsewhere_only_if_they_are_set() {
    let mut app = Builder::sqlite();
    app.config.bind = "0.0.0.0:0".parse().unwrap();
    app.config.admin_token = Some(Hidden::new("a-token-that-is-long-enough-for-admins"));
    let token = "authorization: Bearer a-token-that-is-long-enough-for-admins\r\n";
    let app = app.start();
    let as_any = format!("host: any.example\r\n{token}");
    assert_eq!(get_as(&app, "/stats", &as_any).await, 200);
    let mut app = app.stop().await;
    app.config.allowed_hosts = vec!["tasks.example.org".to_owned()];
    let app = app.start();
    let as_known = format!("host: tasks.example.org\r\n{token}");
    assert_eq!(get_as(&app, "/stats", &as_known).await, 200);
    assert_eq!(get_as(&app, "/stats", &as_any).await, 421);
    let as_address = format!("host: 10.1.2.3:8700\r\n{token}");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get_as(&app, path, &as_address).await, 200, "probes of {path}");
    }
    assert_eq!(get_as(&app, "/metrics", "host: 10.1.2.3:8700\r\n").await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_can_change_nothing() {
    let mut app = Builder::sqlite();
    app.config.public_url = Some("https://tasks.example.org".to_owned());
    let app = app.start();
    let id = app.enqueue("a.b").await.id;
    // What a form of any page can send without asking.
    let post = |origin: &str| {
        let request = app.request("POST", &format!("/tasks/{id}/cancel"));
        app.send(request.header("origin", origin))
    };
    for origin in ["https://evil.example", "null", "http://localhost.evil.example", "x"] {
        assert_eq!(post(origin).await.problem(), "403 origin_refused -", "{origin}");
    }
    assert!(!app.task(id).await.status.is_finished());
    let read = app.request("GET", "/stats").header("origin", "https://evil.example");
    let read = app.send(read).await;
    assert_eq!((read.status, read.header("access-control-allow-origin")), (200, None));
    for own in [app.server.clone(), "https://tasks.example.org".to_owned()] {
        assert!(post(&own).await.status < 300, "{own}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_named_origins_may_use_the_api() {
    let mut app = Builder::sqlite();
    let preflight = |app: &TestApp, origin: &str| {
        app.request("OPTIONS", "/tasks")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type, authorization")
    };
    let without = app.start();
    let answer = without.send(preflight(&without, "https://app.example.org")).await;
    assert_eq!(answer.header("access-control-allow-origin"), None, "off by default");

    app = without.stop().await;
    app.config.cors_origins = vec!["https://app.example.org".to_owned()];
    let named = app.start();
    let answer = named.send(preflight(&named, "https://app.example.org")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.org"));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("POST"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let answer = named.send(preflight(&named, "https://evil.example")).await;
    assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");
    let task = |app: &TestApp, origin: &str| {
        app.request("POST", "/tasks")
            .header("origin", origin)
            .header("content-type", "application/json")
            .body(r#"{"task_path":"a.b"}"#)
    };
    let answer = named.send(task(&named, "https://app.example.org")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.org"));
    let exposed = answer.header("access-control-expose-headers").unwrap().to_ascii_lowercase();
    assert!(exposed.contains("location") && exposed.contains("retry-after"), "{exposed}");
    let refused = named.send(task(&named, "https://evil.example")).await;
    assert_eq!(refused.problem(), "403 origin_refused -");

    app = named.stop().await;
    app.config.cors_origins = vec!["*".to_owned()];
    let all = app.start();
    let answer = all.send(task(&all, "https://any.example")).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

/// Follows the request in question; were it read as one of its own, it would be answered.
const SECOND: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_end_is_in_doubt_is_the_last_of_its_connection() {
    let app = Builder::sqlite().start();
    let post = |version: &str, headers: &str, body: &str| {
        format!(
            "POST /tasks HTTP/{version}\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             {headers}\r\n{body}{SECOND}"
        )
    };
    let chunks = "0\r\n\r\n";
    let large = format!("x: {}\r\n", "x".repeat(256 * 1024));
    let many = "x: y\r\n".repeat(200);
    for (version, headers, body) in [
        ("1.1", "content-length: 5\r\ntransfer-encoding: chunked\r\n", chunks),
        ("1.1", "transfer-encoding: chunked\r\ncontent-length: 5\r\n", chunks),
        ("1.1", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", chunks),
        ("1.1", "transfer-encoding: identity\r\ncontent-length: 2\r\n", "{}"),
        ("1.1", "transfer-encoding: identity\r\n", ""),
        ("1.1", "transfer-encoding: xchunked\r\n", chunks),
        ("1.1", "transfer-encoding: chunked, identity\r\n", chunks),
        ("1.1", "transfer-encoding : chunked\r\n", chunks),
        ("1.0", "connection: keep-alive\r\ntransfer-encoding: chunked\r\n", chunks),
        ("1.1", "transfer-encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"),
        ("1.1", "transfer-encoding: chunked\r\n", "-1\r\n{}\r\n0\r\n\r\n"),
        ("1.1", "content-length: 2\r\ncontent-length: 3\r\n", "{}"),
        ("1.1", "content-length: 2\r\ncontent-length: 2\r\n", "{}"),
        ("1.1", "content-length: 2, 2\r\n", "{}"),
        ("1.1", "content-length: +2\r\n", "{}"),
        ("1.1", "content-length: -2\r\n", "{}"),
        ("1.1", "content-length: 0x2\r\n", "{}"),
        ("1.1", "content-length: 99999999999999999999\r\n", "{}"),
        ("1.1", "content-length : 2\r\n", "{}"),
        ("1.1", "x: a\r\n content-length: 2\r\n", "{}"),
        ("1.1", "x: a\0b\r\n", ""),
        ("1.1", "x: a\rcontent-length: 2\r\n", "{}"),
        ("9.9", "", ""),
        ("1.1", &large, ""),
        ("1.1", &many, ""),
    ] {
        let answer = raw(&app, post(version, headers, body).as_bytes()).await;
        let shown = headers.get(..80.min(headers.len())).unwrap();
        assert!(answer.matches("HTTP/1.").count() <= 1, "{version} {shown:?}: {answer}");
        assert!(matches!(status(&answer), 0 | 400..500), "{version} {shown:?}: {answer}");
    }
    assert_eq!(app.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_line_feed_ends_a_line_for_the_whole_head_or_for_nothing() {
    let app = Builder::sqlite().start();
    // RFC 9112, section 2.2, allows it: what follows such a line is seen, and looked at, as a header.
    let hidden = format!(
        "POST /tasks HTTP/1.1\r\nhost: localhost\r\nx: a\ntransfer-encoding: chunked\r\n\
         content-length: 5\r\n\r\n0\r\n\r\n{SECOND}"
    );
    let answer = raw(&app, hidden.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
    assert_eq!(status(&answer), 400, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_leads_nowhere_but_where_it_says() {
    let app = Builder::sqlite().start();
    for path in [
        "/tasks/../stats",
        "/tasks/..%2fstats",
        "/tasks/%2e%2e/stats",
        "//stats",
        "/stats/",
        "/%73tats/x",
        "/executors/a%2f..%2f..%2fstats",
        "/docs/../../../../etc/passwd",
        "/docs/..%2f..%2f..%2fetc%2fpasswd",
        "/plugins/..%5c..%5cx",
        "/stats%00",
        "/stats;x=1",
        "stats",
        "*",
    ] {
        let answer = get_as(&app, path, "host: localhost\r\n").await;
        assert!((400..500).contains(&answer), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_keep_nobody_waiting_and_are_sent_away() {
    let mut app = Builder::sqlite();
    app.config.body_read_seconds = 1;
    let app = app.start();
    let body = "POST /tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 99\r\n\r\n{";
    let mut slow = Vec::new();
    for said in ["", "P", "GET /stats HTTP/1.1\r\nhost: loc", body] {
        for _ in 0..100 {
            let mut stream = connect(&app).await;
            stream.write_all(said.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    let start = Instant::now();
    for _ in 0..20 {
        let id = app.enqueue("a.b").await.id;
        app.task(id).await;
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    // What never came to an end was stored nowhere, and its connection is closed.
    for mut stream in slow {
        let mut answer = Vec::new();
        soon("the end of a slow client", stream.read_to_end(&mut answer)).await.ok();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(matches!(status(&answer), 0 | 408), "{answer}");
    }
    assert_eq!(app.count().await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_who_gets_in_are_refused_with_their_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.pem"), "nonsense").unwrap();
    for (arguments, named) in [
        (["--tls-certificate", "bad.pem"].as_slice(), "tls_key"),
        (&["--tls-key", "bad.pem"], "tls_certificate"),
        (&["--tls-certificate", "bad.pem", "--tls-key", "bad.pem"], "tls_certificate"),
        (&["--tls-certificate", "none.pem", "--tls-key", "none.pem"], "none.pem"),
        (&["--allowed-hosts", "a.example,b:80"], "\"b:80\""),
        (&["--cors-origins", "https://a.example/"], "cors_origins"),
        (&["--cors-origins", "a.example"], "cors_origins"),
        (&["--public-url", "tasks.example.org"], "public_url"),
        (&["--executor-ca", "bad.pem"], "executor_ca"),
        (&["--executor-hosts-allowed", "10.0.0.0/99"], "executor_hosts_allowed"),
        (&["--secrets-key-file", "bad.pem"], "secrets_key_file"),
        (&["--secrets-key-file", "none.pem"], "none.pem"),
    ] {
        let mut command = binary();
        command.args(["serve", "--bind", "127.0.0.1:0"]).args(arguments);
        let output = soon("a refusal", command.current_dir(folder.path()).output()).await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(named), "{arguments:?}: {text}");
        assert!(!text.contains("nonsense"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_that_it_is_for_no_frame_and_what_it_is() {
    let app = Builder::sqlite().start();
    for (method, path, status) in [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/docs/", 200),
        ("GET", "/docs", 308),
        ("GET", "/openapi.json", 200),
        ("GET", "/tasks", 200),
        ("POST", "/tasks", 415),
        ("GET", "/nowhere", 404),
        ("PUT", "/tasks", 405),
    ] {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let method = method.parse().unwrap();
        let request = client.build().unwrap().request(method, format!("{}{path}", app.server));
        let answer = app.send(request).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, Some("frame-ancestors 'none'"), "{path}");
    }
    let strange = app.request("GET", "/tasks").header("host", "evil.example");
    let answer = app.send(strange).await;
    assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_gets_no_chunks() {
    let app = Builder::sqlite().start();
    let id = app.enqueue("t").await.id;
    app.client.cancel_task(id, false).await.unwrap();
    let answer = raw(&app, format!("GET /tasks/{id}/events HTTP/1.0\r\n\r\n").as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(status(head), 200, "{answer}");
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert!(body.starts_with("retry: 1000\n\n"), "{body}");
}
