//! Addresses in answers hold below any path of a proxy, and no cache keeps an answer that it ought not to.

use reqwest::redirect::Policy;
use serde_json::Value;
use url::Url;

use crate::support::app::{Builder, TestApp};

/// Where clients find the service behind a proxy that takes this path away.
const OUTSIDE: &str = "https://example.org/nightshift/";

async fn servers(app: &TestApp, path: &str) -> Vec<String> {
    let document = app.send(app.request("GET", path)).await.json();
    let servers = document["servers"].as_array().unwrap();
    servers.iter().map(|server| server["url"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_and_its_pages_are_found_below_a_path() {
    let app = Builder::sqlite().start();
    let outside = |path: &str, reference: &str| {
        Url::parse(OUTSIDE).unwrap().join(path).unwrap().join(reference).unwrap().to_string()
    };
    for path in ["/openapi.json", "/openapi.json?version=3.0"] {
        let servers = servers(&app, path).await;
        assert_eq!(servers.len(), 1, "{servers:?}");
        assert_eq!(outside("openapi.json", &servers[0]), OUTSIDE, "{path}");
    }
    let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
    let moved = app.send(client.get(format!("{}/docs", app.server))).await;
    assert_eq!(moved.status, 308);
    let to = outside("docs", moved.header("location").unwrap());
    assert_eq!(to, "https://example.org/nightshift/docs/");
    let page = app.send(app.request("GET", "/docs/")).await.text;
    for quoted in page.split(['"', '\'']).filter(|text| text.contains(".js")) {
        let script = outside("docs/", quoted);
        assert!(script.starts_with("https://example.org/nightshift/docs/"), "{script}");
    }
    let script = app.send(app.request("GET", "/docs/swagger-initializer.js")).await.text;
    let document = script.split('"').find(|text| text.ends_with("openapi.json")).unwrap();
    assert_eq!(outside("docs/", document), "https://example.org/nightshift/openapi.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn public_url_is_where_a_task_is() {
    let mut app = Builder::sqlite();
    let location = async |app: &TestApp| {
        let answer = app.post("/tasks", r#"{"task_path":"a.b"}"#).await;
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        answer.header("location").unwrap().replace(&id, "ID")
    };
    let without = app.start();
    assert_eq!(location(&without).await, "/tasks/ID");
    app = without.stop().await;
    for (public_url, expected) in [
        ("https://tasks.example.org", "/tasks/ID"),
        ("https://tasks.example.org/", "/tasks/ID"),
        ("https://example.org/nightshift", "/nightshift/tasks/ID"),
        ("https://example.org/a/b/", "/a/b/tasks/ID"),
    ] {
        app.config.public_url = Some(public_url.to_owned());
        let with = app.start();
        assert_eq!(location(&with).await, expected, "{public_url}");
        let known = public_url.trim_end_matches('/');
        assert_eq!(servers(&with, "/openapi.json").await, [".", known], "{public_url}");
        app = with.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_the_stored_one_but_for_its_servers() {
    let app = Builder::sqlite().start();
    let stored = nightshift::api::document();
    for (path, mut expected) in [
        ("/openapi.json", serde_json::to_value(&stored).unwrap()),
        ("/openapi.json?version=3.1", serde_json::to_value(&stored).unwrap()),
        ("/openapi.json?version=3.0", nightshift::api::document_3_0(&stored)),
    ] {
        let mut served = app.send(app.request("GET", path)).await.json();
        served["servers"] = Value::Null;
        expected["servers"] = Value::Null;
        assert!(served == expected, "{path}");
    }
    let answer = app.send(app.request("GET", "/openapi.json?version=2.0")).await;
    assert_eq!(answer.problem(), "400 invalid_query -");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_keeps_what_is_about_tasks() {
    let app = Builder::sqlite().start();
    let id = app.enqueue("a.b").await.id;
    app.register_workers("w", |_| {}).await;
    let post = |path: &str, body: &'static str| {
        app.request("POST", path).header("content-type", "application/json").body(body)
    };
    for request in [
        post("/executors/w/leases", r#"{"worker_id":"one"}"#),
        post("/leases/finish", r#"{"results":[{"token":"x"}]}"#),
        app.request("GET", &format!("/tasks/{id}")),
        app.request("GET", "/executors/w"),
        app.request("GET", "/nowhere"),
        app.request("GET", "/tasks?limit=x"),
        // Last: from here on it asks for a token.
        post("/tokens", r#"{"name":"t","scopes":["admin"]}"#),
    ] {
        let answer = app.send(request).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    }
    for path in ["/openapi.json", "/docs/", "/docs/errors"] {
        let answer = app.send(app.request("GET", path)).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, None), "{path}");
    }
}
