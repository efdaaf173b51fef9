//! A problem says in the caller's words what is wrong with a request, where, and what to do about it.

use nightshift_client::types::ErrorCode;
use serde_json::Value;

use crate::support::app::{Answer, Builder, TestApp};

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

/// Words of the code that reads a body: none of them is JSON's.
const OF_RUST: [&str; 12] = [
    "struct", "enum", "variant", "f64", "i64", "u32", "u64", "sequence", "map", "ident", "integer",
    "floating",
];

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_bodies_are_told_in_the_words_of_json() {
    let app = Builder::sqlite().start();
    for (body, pointer, said) in [
        ("null", "", "the body must be an object, not null"),
        ("7", "", "the body must be an object, not 7"),
        ("\"a\"", "", "the body must be an object, not the string \"a\""),
        ("[]", "", "the body must be an object"),
        ("{}", "", "the field `task_path` is missing"),
        (r#"{"task_path":7}"#, "/task_path", "task_path must be a string, not 7"),
        (r#"{"task_path":{}}"#, "/task_path", "task_path must be a string, not an object"),
        (r#"{"task_path":"a","task_path":"b"}"#, "", "the field `task_path` is there twice"),
        (r#"{"task_path":"a","colour":"b"}"#, "/colour", "unknown field `colour`"),
        (
            r#"{"task_path":"a","timeout_seconds":"long"}"#,
            "/timeout_seconds",
            "timeout_seconds must be a number, not the string \"long\"",
        ),
        (
            r#"{"task_path":"a","priority":", expected f64 at line 1 column 3"}"#,
            "/priority",
            "priority must be a whole number, not the string \", expected f64 at line 1 column 3\"",
        ),
        (
            r#"{"task_path":"a","priority":1.5}"#,
            "/priority",
            "priority must be a whole number, not 1.5",
        ),
        (
            r#"{"task_path":"a","backoff":[1]}"#,
            "/backoff",
            "backoff must be an object, not an array",
        ),
        (
            r#"{"task_path":"a","backoff":{"factor":true}}"#,
            "/backoff/factor",
            "backoff/factor must be a number, not true",
        ),
        (r#"{"task_path":"a","labels":[]}"#, "/labels", "labels must be an object, not an array"),
        (r#"{"task_path":"a","id":7}"#, "/id", "id must be a UUID, not 7"),
    ] {
        let answer = app.post("/tasks", body).await;
        assert_eq!(answer.problem().trim_end(), format!("422 invalid_field {pointer}").trim_end());
        check(&answer, said, body);
    }
    for (body, pointer, said) in [
        (
            r#"{"kind":"pigeon"}"#,
            "/kind",
            "kind must be one of `http`, `worker`, `wasm`, not `pigeon`",
        ),
        (r#"{"kind":7}"#, "/kind", "kind must be a string"),
        (r#"{"kind":"worker","paused":1}"#, "/paused", "paused must be true or false, not 1"),
        (
            r#"{"kind":"worker","task_paths":"a"}"#,
            "/task_paths",
            "task_paths must be an array, not the string \"a\"",
        ),
    ] {
        let request = app.request("PUT", "/executors/e").header("content-type", "application/json");
        let answer = app.send(request.body(body)).await;
        assert_eq!(answer.problem(), format!("422 invalid_field {pointer}"), "{body}");
        check(&answer, said, body);
    }
    let batch = r#"{"tasks":[{"task_path":"a"},{"task_path":"b","max_attempts":[]}]}"#;
    let answer = app.post("/tasks/batch", batch).await;
    assert_eq!(answer.problem(), "422 invalid_field /tasks/1/max_attempts");
    check(&answer, "tasks/1/max_attempts must be a whole number, not an array", batch);
    let answer = app.post("/tasks", "nonsense").await;
    assert_eq!(answer.problem(), "400 malformed_json ");
    check(&answer, "expected null, true or false at line 1 column 2", "nonsense");
}

fn check(answer: &Answer, said: &str, body: &str) {
    let detail = detail(answer);
    assert!(detail.starts_with(said), "{body}: {detail}");
    let (own, _quoted) = detail.split_once(", not ").unwrap_or((&detail, ""));
    for word in own.split(|c: char| !c.is_alphanumeric()) {
        assert!(!OF_RUST.contains(&word), "{body}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_names_the_parameter() {
    let app = Builder::sqlite().start();
    let id = app.enqueue("a.b").await.id;
    for (path, code, parameter, said) in [
        ("/tasks?limit=0", "invalid_query", "limit", "limit must be 1 to 1000"),
        (
            "/tasks?limit=many",
            "invalid_query",
            "limit",
            "limit must be a whole number of 0 or more",
        ),
        ("/tasks?limit=-1", "invalid_query", "limit", "limit must be a whole number of 0 or more"),
        ("/tasks?limit=99999999999", "invalid_query", "limit", "limit is too large"),
        ("/tasks?limit=1&limit=2", "invalid_query", "limit", "limit is there twice"),
        ("/tasks?label=x", "invalid_query", "label", "label must be key=value"),
        ("/tasks?queue_name=a%00", "invalid_query", "queue_name", "queue_name must not hold a NUL"),
        ("/tasks?enqueued_after=now", "invalid_query", "enqueued_after", "enqueued_after: not an"),
        ("/tasks?colour=red", "invalid_query", "colour", "there is no parameter \"colour\" here"),
        ("/tasks?cursor=!", "invalid_cursor", "cursor", "the cursor is not one"),
        ("/tokens?cursor=!", "invalid_cursor", "cursor", "the cursor is not one"),
        ("/events?last_event_id=x", "invalid_cursor", "last_event_id", "Last-Event-ID is not"),
        ("/events?type=x", "invalid_query", "type", "type must be one of `task.enqueued`"),
        (
            "/tasks?status=ready",
            "invalid_query",
            "status",
            "status must be one of `READY`, `RUNNING`, `SUCCESSFUL`, `FAILED`, `CANCELLED`, not `ready`",
        ),
    ] {
        let answer = app.send(app.request("GET", path)).await;
        assert_eq!(answer.problem(), format!("400 {code} -"), "{path}");
        assert_eq!(answer.json()["parameter"], parameter, "{path}");
        assert!(detail(&answer).starts_with(said), "{path}: {}", detail(&answer));
    }
    let cancel = app.request("POST", &format!("/tasks/{id}/cancel?force=yes"));
    let answer = app.send(cancel).await;
    assert_eq!((answer.status, detail(&answer).as_str()), (400, "force must be true or false"));
    // The header is no parameter.
    let events = app.request("GET", "/events").header("last-event-id", "x");
    let answer = app.send(events).await;
    assert_eq!(answer.problem(), "400 invalid_cursor -");
    assert_eq!(answer.json().get("parameter"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_says_what_to_do_and_where_it_is_explained() {
    let app = Builder::sqlite().start();
    let page = app.send(app.request("GET", "/docs/errors")).await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    for code in ErrorCode::ALL {
        assert!(page.text.contains(&format!("id=\"{}\"", code.name())), "{}", code.name());
    }
    let answer = app.send(app.request("GET", "/nowhere")).await;
    assert_eq!(answer.json()["advice"], ErrorCode::UnknownRoute.advice());
    let explained = url::Url::parse(&app.server).unwrap().join("/nowhere").unwrap();
    let explained = explained.join(answer.json()["type"].as_str().unwrap()).unwrap();
    assert_eq!(explained.fragment(), Some("unknown_route"));
    let there = app.send(reqwest::Client::new().get(explained)).await;
    assert_eq!(there.text, page.text);
}

fn types(answer: &Value) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let results = answer["results"].as_array().into_iter().flatten().map(|one| &one["problem"]);
    for problem in std::iter::once(answer).chain(results) {
        found.extend(problem["type"].as_str().map(str::to_owned));
    }
    found
}

async fn some_types(app: &TestApp) -> Vec<String> {
    let mut found = Vec::new();
    // By those who let in, by a door, by a handler, by an extractor, and within an answer.
    found.extend(types(&app.send(app.request("GET", "/nowhere")).await.json()));
    let strange = app.request("GET", "/tasks").header("host", "evil.example");
    found.extend(types(&app.send(strange).await.json()));
    found.extend(types(&app.send(app.request("GET", "/tasks/x")).await.json()));
    found.extend(types(&app.post("/tasks", "{}").await.json()));
    found.extend(types(&app.send(app.request("GET", "/tasks?wait=1")).await.json()));
    let report = r#"{"results":[{"token":"x","return_value":1}]}"#;
    found.extend(types(&app.post("/leases/finish", report).await.json()));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_explained_below_the_path_of_public_url() {
    let mut app = Builder::sqlite();
    app.config.public_url = Some("https://example.org/nightshift/".to_owned());
    let app = app.start();
    let found = some_types(&app).await;
    assert_eq!(found.len(), 6, "{found:?}");
    for one in found {
        assert!(one.starts_with("/nightshift/docs/errors#"), "{one}");
    }
}
