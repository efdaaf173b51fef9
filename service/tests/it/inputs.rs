//! Each operation refuses inputs that the document does not give it.

use serde_json::Value;

use crate::support::app::{Answer, Builder, TestApp};

/// Methods and paths of all operations, and what the document says of them.
fn operations() -> Vec<(String, String, Value)> {
    let document = serde_json::to_value(nightshift::api::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let id = "01a211c6-0807-7302-acc0-6d04985483ab";
        let token = "0".repeat(48);
        let path = path.replace("{id}", id).replace("{name}", "some").replace("{token}", &token);
        for (method, operation) in item.as_object().unwrap() {
            operations.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    assert!(operations.len() >= 41);
    operations
}

async fn with_body(app: &TestApp, method: &str, path: &str, body: &'static str) -> Answer {
    let request = app.request(method, path).header("content-type", "application/json");
    app.send(request.body(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_refuses_a_query_parameter_that_it_does_not_have() {
    let app = Builder::sqlite().start();
    for (method, path, _) in operations() {
        let asked = app.request(&method, &format!("{path}?unheard_of=1"));
        let answer = app.send(asked).await;
        assert_eq!(answer.problem(), "400 invalid_query -", "{method} {path}");
        assert_eq!(answer.json()["parameter"], "unheard_of", "{method} {path}");
    }
    // Those that look as if they were there.
    let id = app.enqueue("a.b").await.id;
    for (method, path) in [
        ("POST", "/tasks?wait=5".to_owned()),
        ("GET", format!("/tasks/{id}/status?wait=5")),
        ("HEAD", format!("/tasks/{id}/status?wait=5")),
        ("DELETE", format!("/tasks/{id}?force=true")),
        ("GET", "/tasks?offset=10".to_owned()),
    ] {
        let body = r#"{"task_path":"a.b"}"#;
        let request = if method == "POST" {
            app.request(method, &path).header("content-type", "application/json").body(body)
        } else {
            app.request(method, &path)
        };
        assert_eq!(app.send(request).await.status, 400, "{method} {path}");
    }
    assert_eq!(app.count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_refuses_a_field_or_a_body_that_it_does_not_have() {
    let app = Builder::sqlite().start();
    for (method, path, operation) in operations() {
        let answer = with_body(&app, &method, &path, r#"{"unheard_of":1}"#).await;
        let expected = match operation["requestBody"]["content"].as_object() {
            Some(content) if content.contains_key("application/wasm") => {
                "415 unsupported_media_type -"
            }
            Some(_) => "422 invalid_field /unheard_of",
            None => "400 unexpected_body -",
        };
        assert_eq!(answer.problem(), expected, "{method} {path}");
    }
    let id = app.enqueue("a.b").await.id;
    let path = format!("/tasks/{id}/cancel");
    for body in [r#"{"force": true}"#, "force=true", "[]", "{", "0", " {\"a\":1} "] {
        let answer = with_body(&app, "POST", &path, body).await;
        assert_eq!(answer.problem(), "400 unexpected_body -", "{body}");
    }
    let large = app.request("POST", &path).body("x".repeat(1 << 20));
    assert_eq!(app.send(large).await.problem(), "400 unexpected_body -");
    assert!(!app.task(id).await.status.is_finished(), "nobody has cancelled it");
    let read = with_body(&app, "GET", &format!("/tasks/{id}"), "{\"wait\": 1}").await;
    assert_eq!(read.problem(), "400 unexpected_body -");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_says_nothing_is_none() {
    let app = Builder::sqlite().start();
    for body in ["", " \n", "null", "{}", "{ }\n"] {
        let id = app.enqueue("a.b").await.id;
        let answer = with_body(&app, "POST", &format!("/tasks/{id}/cancel"), body).await;
        assert_eq!(answer.status, 200, "{body:?} {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn media_types_have_no_case() {
    let app = Builder::sqlite().start();
    let task = r#"{"task_path":"a.b"}"#;
    for (path, media_type, body) in [
        ("/tasks", "Application/JSON", task),
        ("/tasks", "APPLICATION/JSON; Charset=UTF-8", task),
        ("/tasks/batch", "Application/Json", r#"{"tasks":[{"task_path":"a.b"}]}"#),
        ("/tasks/batch", "application/X-NDJSON", task),
    ] {
        let request = app.request("POST", path).header("content-type", media_type);
        assert_eq!(app.send(request.body(body)).await.status, 201, "{path} {media_type}");
    }
    let request = app.request("PUT", "/plugins/p").header("content-type", "Application/WASM");
    assert_eq!(app.send(request.body("no component")).await.problem(), "422 invalid_plugin -");
    let worker = app.register_workers("w", |_| {}).await;
    let lease = worker.next().await;
    let renew = app.request("POST", &format!("/leases/{}/renew", lease.token));
    let renew = renew.header("content-type", "application/Json").body("{\"logs\":[]}");
    assert_eq!(app.send(renew).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_body_is_refused() {
    let app = Builder::sqlite().start();
    let token = "0".repeat(48);
    for (method, path, media_type) in [
        ("POST", "/tasks".to_owned(), "application/json"),
        ("POST", "/tasks/batch".to_owned(), "application/x-ndjson"),
        ("PUT", "/plugins/p".to_owned(), "application/wasm"),
        ("PUT", "/executors/e".to_owned(), "application/json"),
        ("POST", format!("/leases/{token}/finish"), "application/json"),
        ("POST", "/leases/finish".to_owned(), "application/json"),
    ] {
        for encoding in ["gzip", "GZIP", "identity, br"] {
            let request = app.request(method, &path).header("content-type", media_type);
            let request = request.header("content-encoding", encoding).body(r#"{"task_path":"a"}"#);
            let answer = app.send(request).await;
            assert_eq!(answer.problem(), "415 unsupported_encoding -", "{path} {encoding}");
            assert_eq!(answer.header("accept-encoding"), Some("identity"), "{path}");
        }
    }
    assert_eq!(app.count().await, 0);
    let request = app.request("POST", "/tasks").header("content-type", "application/json");
    let request = request.header("content-encoding", "Identity").body(r#"{"task_path":"a"}"#);
    assert_eq!(app.send(request).await.status, 201);
}
