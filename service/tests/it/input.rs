//! Bad input gets a clear error and stores nothing.

use std::time::Duration;

use crate::support::{app::TestApp, on_both_engines, soon};

/// Each bad body with the problem that it gets.
fn bad_bodies() -> Vec<(String, &'static str)> {
    let long = "x".repeat(300);
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    [
        ("", "400 malformed_json "),
        ("{", "400 malformed_json "),
        ("nonsense", "400 malformed_json "),
        ("\u{feff}{}", "400 malformed_json "),
        (r#"{"task_path":"a"} x"#, "400 malformed_json -"),
        (r#"{"task_path":"a","args":[NaN]}"#, "400 malformed_json /args"),
        (r#"{"task_path":"a","args":[Infinity]}"#, "400 malformed_json /args"),
        (r#"{"task_path":"a","args":[01]}"#, "400 malformed_json /args"),
        ("[]", "422 invalid_field "),
        (r#"["a"]"#, "422 invalid_field "),
        (r#"{"task_path":"a","backoff":[1,2]}"#, "422 invalid_field /backoff"),
        ("null", "422 invalid_field "),
        ("{}", "422 invalid_field "),
        (r#"{"task_path":null}"#, "422 invalid_field /task_path"),
        (r#"{"task_path":7}"#, "422 invalid_field /task_path"),
        (r#"{"task_path":""}"#, "422 invalid_field /task_path"),
        (&format!(r#"{{"task_path":"{long}"}}"#), "422 invalid_field /task_path"),
        (r#"{"task_path":"a b"}"#, "422 invalid_field /task_path"),
        (r#"{"task_path":"a\u0000"}"#, "422 invalid_field /task_path"),
        (r#"{"task_path":"a*"}"#, "422 invalid_field /task_path"),
        (r#"{"task_path":"a","task_path":"b"}"#, "422 invalid_field "),
        (r#"{"task_path":"a","retries":3}"#, "422 invalid_field /retries"),
        (r#"{"task_path":"a","priority":101}"#, "422 invalid_field /priority"),
        (r#"{"task_path":"a","priority":-101}"#, "422 invalid_field /priority"),
        (r#"{"task_path":"a","priority":1.5}"#, "422 invalid_field /priority"),
        (r#"{"task_path":"a","priority":"high"}"#, "422 invalid_field /priority"),
        (r#"{"task_path":"a","priority":1e400}"#, "400 malformed_json /priority"),
        (r#"{"task_path":"a","args":{}}"#, "422 invalid_field /args"),
        (r#"{"task_path":"a","args":"x"}"#, "422 invalid_field /args"),
        (r#"{"task_path":"a","kwargs":[]}"#, "422 invalid_field /kwargs"),
        (&format!(r#"{{"task_path":"a","args":{}}}"#, deep(129)), "422 too_deep /args"),
        (&format!(r#"{{"task_path":"a","args":{}}}"#, deep(10_000)), "422 too_deep /args"),
        (&format!(r#"{{"task_path":{}}}"#, deep(10_000)), "422 invalid_field /task_path"),
        (&deep(10_000), "422 invalid_field "),
        (r#"{"task_path":"a","run_after":"2026-01-01T00:00:00"}"#, "422 invalid_field /run_after"),
        (r#"{"task_path":"a","run_after":"tomorrow"}"#, "422 invalid_field /run_after"),
        (r#"{"task_path":"a","run_after":"9999-12-31T23:59:59Z"}"#, "422 invalid_field /run_after"),
        (r#"{"task_path":"a","run_after":1}"#, "422 invalid_field /run_after"),
        (r#"{"task_path":"a","id":"123"}"#, "422 invalid_field /id"),
        (r#"{"task_path":"a","timeout_seconds":0}"#, "422 invalid_field /timeout_seconds"),
        (r#"{"task_path":"a","timeout_seconds":-1}"#, "422 invalid_field /timeout_seconds"),
        (r#"{"task_path":"a","max_attempts":0}"#, "422 invalid_field /max_attempts"),
        (r#"{"task_path":"a","max_attempts":101}"#, "422 invalid_field /max_attempts"),
        (r#"{"task_path":"a","backoff":{"factor":0.5}}"#, "422 invalid_field /backoff/factor"),
        (r#"{"task_path":"a","backoff":{"jitter":2}}"#, "422 invalid_field /backoff/jitter"),
        (r#"{"task_path":"a","backoff":{"speed":2}}"#, "422 invalid_field /backoff/speed"),
        (r#"{"task_path":"a","labels":{"":"x"}}"#, "422 invalid_field /labels"),
        (r#"{"task_path":"a","labels":{"x":1}}"#, "422 invalid_field /labels/x"),
        (r#"{"task_path":"a","unique_key":""}"#, "422 invalid_field /unique_key"),
        (r#"{"task_path":"a","queue_name":""}"#, "422 invalid_field /queue_name"),
    ]
    .into_iter()
    .map(|(body, problem)| (body.to_owned(), problem))
    .collect()
}

async fn nothing_is_stored(app: &TestApp) {
    assert_eq!(app.count().await, 0);
}

on_both_engines! {
    async fn c13_c15_c16_bad_bodies_are_refused_and_nothing_is_stored(app: App) {
        let app = app.start();
        for (body, problem) in bad_bodies() {
            let answer = app.post("/tasks", body.clone()).await;
            let got = answer.problem();
            let want = problem.trim_end();
            assert_eq!(got.trim_end_matches(" -").trim_end(), want.trim_end_matches(" -"), "{body:.60}");
        }
        let invalid_utf8 = app.post("/tasks", b"{\"task_path\":\"\xff\"}".to_vec()).await;
        assert_eq!(invalid_utf8.status, 400, "{invalid_utf8:?}");
        nothing_is_stored(&app).await;
        for priority in [-100, 0, 100] {
            let body = format!(r#"{{"task_path":"a","priority":{priority}}}"#);
            assert_eq!(app.post("/tasks", body).await.status, 201);
        }
    }

    async fn a_large_body_is_refused(app: App) {
        let app = app.start();
        let body = format!(r#"{{"task_path":"a","args":["{}"]}}"#, "x".repeat(10 << 20));
        let answer = app.post("/tasks", body).await;
        assert_eq!(answer.problem(), "413 body_too_large -");
        nothing_is_stored(&app).await;
    }

    async fn an_error_does_not_send_a_large_body_back(app: App) {
        let app = app.start();
        let large = "~".repeat(1 << 20);
        for (body, problem) in [
            (format!(r#"{{"{large}":1}}"#), "422 invalid_field "),
            (format!(r#"{{"task_path":"a","priority":"{large}"}}"#), "422 invalid_field /priority"),
        ] {
            let answer = app.post("/tasks", body).await;
            assert_eq!(answer.problem(), problem);
            assert!(answer.text.len() < 4_096, "{}", answer.text.len());
        }
        nothing_is_stored(&app).await;
    }

    async fn routes_methods_and_types_are_told_apart(app: App) {
        let app = app.start();
        for (method, path, problem) in [
            ("GET", "/nowhere", "404 unknown_route -"),
            ("GET", "/tasks/a/b/c", "404 unknown_route -"),
            ("PUT", "/tasks", "405 method_not_allowed -"),
            ("POST", "/healthz", "405 method_not_allowed -"),
            ("GET", "/tasks/x/cancel", "405 method_not_allowed -"),
            ("GET", "/tasks/batch", "405 method_not_allowed -"),
            ("GET", "/tasks?queue_name=a%00", "400 invalid_query -"),
            ("GET", "/executors/a%00", "404 executor_not_found -"),
            ("GET", "/plugins/a%00", "404 plugin_not_found -"),
            ("BREW", "/tasks", "405 method_not_allowed -"),
        ] {
            let answer = app.send(app.request(method, path)).await;
            assert_eq!(answer.problem(), problem, "{method} {path}");
        }
        let answer = app.send(app.request("HEAD", "/healthz")).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""));
        let answer = app.send(app.request("POST", "/executors/x")).await;
        assert_eq!(answer.header("allow"), Some("GET, HEAD, PUT, DELETE, PATCH"));
        for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let request = app.request("POST", "/tasks").header("content-type", content_type);
            let answer = app.send(request.body(r#"{"task_path":"a"}"#)).await;
            assert_eq!(answer.problem(), "415 unsupported_media_type -", "{content_type}");
        }
        let request = app.request("POST", "/tasks").header("content-type", "application/json; charset=utf-8");
        assert_eq!(app.send(request.body(r#"{"task_path":"a"}"#)).await.status, 201);
    }

    async fn a_batch_with_a_bad_task_stores_nothing(app: App) {
        let app = app.start();
        let mut tasks = vec![r#"{"task_path":"a"}"#; 1_000];
        tasks[499] = r#"{"task_path":"a","priority":1.5}"#;
        let array = format!(r#"{{"tasks":[{}]}}"#, tasks.join(","));
        let answer = app.post("/tasks/batch", array).await;
        assert_eq!(answer.problem(), "422 invalid_field /tasks/499/priority");
        let lines = |text: String| {
            let request = app.request("POST", "/tasks/batch");
            app.send(request.header("content-type", "application/x-ndjson").body(text))
        };
        let answer = lines(tasks.join("\n")).await;
        assert_eq!(answer.problem(), "422 invalid_field /tasks/499/priority");
        tasks[499] = r#"{"task_path":"a","priority":101}"#;
        let answer = lines(tasks.join("\n")).await;
        assert_eq!(answer.problem(), "422 invalid_field /tasks/499/priority");
        tasks[499] = r#"{"task_path":"a""#;
        assert_eq!(lines(tasks.join("\n")).await.problem(), "400 malformed_json /tasks/499");
        let answer = app.post("/tasks/batch", r#"{"tasks":[]}"#).await;
        assert_eq!(answer.problem(), "422 batch_size /tasks");
        let answer = lines(vec![r#"{"task_path":"a"}"#; 10_001].join("\n")).await;
        assert_eq!(answer.problem(), "422 batch_size /tasks");
        // What comes after that is not even read as a task.
        let mut many = vec![r#"{"task_path":"a"}"#; 10_001];
        many.push(r#"{"task_path":1}"#);
        let answer = app.post("/tasks/batch", format!(r#"{{"tasks":[{}]}}"#, many.join(","))).await;
        assert_eq!(answer.problem(), "422 batch_size /tasks");
        let request = app.request("POST", "/tasks/batch").header("content-type", "application/json");
        let request = request.header("idempotency-key", "k").body(r#"{"tasks":[{"task_path":"a"}]}"#);
        assert_eq!(app.send(request).await.problem(), "400 invalid_header -");
        nothing_is_stored(&app).await;
    }

    async fn bad_registrations_are_refused_and_nothing_changes(app: App) {
        let app = app.start();
        let good = r#"{"kind":"http","task_paths":["*"],"url":"http://127.0.0.1:9/",
            "secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#;
        let put = |name: &str, body: String| {
            let request = app.request("PUT", &format!("/executors/{name}"));
            app.send(request.header("content-type", "application/json").body(body))
        };
        for (from, to, problem) in [
            (r#""http""#, r#""carrier pigeon""#, "422 invalid_field /kind"),
            (r#"["*"]"#, "[]", "422 invalid_field /task_paths"),
            (r#"["*"]"#, r#"["a","b c"]"#, "422 invalid_field /task_paths/1"),
            (r#"["*"]"#, r#"["a*b"]"#, "422 invalid_field /task_paths/0"),
            ("http://127.0.0.1:9/", "nonsense", "422 invalid_field /url"),
            ("http://127.0.0.1:9/", "file:///etc/passwd", "422 invalid_field /url"),
            ("whsec_", "", "422 invalid_field /secret"),
            (r#""kind""#, r#""concurrency":0,"kind""#, "422 invalid_field /concurrency"),
            (r#""kind""#, r#""concurrency":-1,"kind""#, "422 invalid_field /concurrency"),
            (r#""kind""#, r#""lease_seconds":3601,"kind""#, "422 invalid_field /lease_seconds"),
            (r#""kind""#, r#""retries":1,"kind""#, "422 invalid_field /retries"),
            (r#""url""#, r#""previous_secret":"x","url""#, "422 invalid_field /previous_secret"),
        ] {
            let answer = put("exec", good.replacen(from, to, 1)).await;
            assert_eq!(answer.problem(), problem, "{to}");
        }
        for field in ["url", "secret"] {
            let body = good.replacen(&format!("\"{field}\":"), &format!("\"{field}\":null,\"_\":"), 1);
            let body = body.replacen("\"_\":\"", "\"previous_secret\":\"", 1);
            let answer = put("exec", body).await;
            assert_eq!(answer.status, 422, "{answer:?}");
        }
        assert_eq!(put("a%20b", good.to_owned()).await.problem(), "422 invalid_field /name");
        assert!(app.client.list_executors(None, None).await.unwrap().items.is_empty());
        assert_eq!(put("exec", good.to_owned()).await.status, 201);
        assert_eq!(put("exec", good.to_owned()).await.status, 200);
    }

    async fn a_body_that_drips_is_cut_off(app: App) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut app = app;
        app.config.body_read_seconds = 1;
        let app = app.start();
        let address = app.server.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = "POST /tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let dripping = tokio::spawn(async move {
            let mut drop = tokio::time::interval(Duration::from_millis(200));
            for byte in br#"{"task_path":"a"}"# {
                drop.tick().await;
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
        });
        let mut answer = [0; 12];
        soon("an answer", reader.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408");
        dripping.abort();
        nothing_is_stored(&app).await;
    }

    async fn a_connection_that_ends_says_so(app: App) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let app = app.start();
        let address = app.server.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let offer = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk";
        let request = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{offer}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("an answer and its end", stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}
