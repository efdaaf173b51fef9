//! What the client makes of answers, and what it sends.

use std::time::Duration;

use nightshift_client::{
    Client, EnqueueOptions, Error, Retry,
    types::{ErrorCode, TaskRequest},
};
use tokio::task::JoinHandle;

use crate::support;

/// A client that returns each error at once, of a service that gives one answer.
async fn server(answer: &'static str) -> (Client, JoinHandle<Vec<String>>) {
    let (client, served) = support::server([answer]).await;
    (client.with_retry(Retry::never()), served)
}

#[tokio::test]
async fn a_problem_is_an_error_with_its_code() {
    let (client, _served) = server(
        "HTTP/1.1 503 X\r\nretry-after: 7\r\nconnection: close\r\n\r\n\
         {\"type\":\"t\",\"title\":\"T\",\"status\":503,\"code\":\"overloaded\",\"detail\":\"d\"}",
    )
    .await;
    let error = client.get_readiness().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Overloaded));
    assert_eq!(error.to_string(), "overloaded: d");
    assert!(
        matches!(error, Error::Problem { retry_after: Some(wait), .. } if wait == Duration::from_secs(7))
    );
}

#[tokio::test]
async fn what_is_not_ours_is_told_apart() {
    let (client, _served) =
        server("HTTP/1.1 502 X\r\nconnection: close\r\n\r\n<html>Bad Gateway</html>").await;
    let error = client.get_readiness().await.unwrap_err();
    assert!(matches!(&error, Error::Foreign { status: 502, .. }), "{error:?}");
    assert!(error.to_string().contains("Bad Gateway"));
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_told_apart() {
    let (client, _served) = server("HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n").await;
    let error = client.get_stats().await.unwrap_err();
    assert!(matches!(&error, Error::Unreadable { .. }), "{error:?}");
    assert!(!error.is_transient());
    assert!(error.to_string().contains(r#"{"a": 1}"#), "{error}");
}

#[tokio::test]
async fn a_date_to_try_again_is_taken_against_the_service_s_own_clock() {
    let (client, _served) = server(
        "HTTP/1.1 429 X\r\ndate: Fri, 31 Dec 1999 23:59:50 GMT\r\n\
         retry-after: Sat, 01 Jan 2000 00:00:20 GMT\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let error = client.get_stats().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
}

#[tokio::test]
async fn what_passes_by_itself_may_be_tried_again() {
    for (answer, transient) in [
        ("HTTP/1.1 408 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", true),
        ("HTTP/1.1 429 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", true),
        ("HTTP/1.1 502 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", true),
        ("HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", false),
    ] {
        let (client, _served) = server(answer).await;
        let error = client.get_readiness().await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{answer}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (client, _served) =
        server("HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n")
            .await;
    let error = client.get_readiness().await.unwrap_err();
    assert!(matches!(&error, Error::Foreign { status: 307, .. }), "{error:?}");
}

#[tokio::test]
async fn values_are_sent_as_the_text_that_they_are() {
    let (client, served) = server("HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}").await;
    let args = r#"[10000000000000000000000000000000000000000,1e-7,"\ud800"]"#;
    let request = TaskRequest { args: Some(args.parse().unwrap()), ..TaskRequest::new("a.b") };
    let options = EnqueueOptions {
        idempotency_key: Some("k".into()),
        wait: Some(Duration::from_secs(5)),
        ..EnqueueOptions::default()
    };
    client.create_task(&request, &options).await.unwrap_err();
    let sent = served.await.unwrap().remove(0);
    assert!(sent.starts_with("POST /tasks HTTP/1.1\r\n"), "{sent}");
    assert!(
        sent.contains("prefer: wait=5\r\n") && sent.contains("idempotency-key: k\r\n"),
        "{sent}"
    );
    assert!(sent.ends_with(&format!("{{\"task_path\":\"a.b\",\"args\":{args}}}")), "{sent}");
}

#[tokio::test]
async fn names_are_encoded() {
    let (client, served) = server("HTTP/1.1 204 X\r\n\r\n").await;
    client.delete_executor("a/b c?d").await.unwrap();
    let sent = served.await.unwrap().remove(0);
    assert!(sent.starts_with("DELETE /executors/a%2Fb%20c%3Fd HTTP/1.1\r\n"), "{sent}");
}

#[test]
fn an_address_that_is_none_is_refused() {
    for base in ["", "nonsense", "ftp://example.org", "127.0.0.1:8700"] {
        assert!(matches!(Client::new(base), Err(Error::Address(_))), "{base}");
    }
}
