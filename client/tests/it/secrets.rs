//! What no error tells, since errors go into logs: tokens of leases, and secrets.

use nightshift_client::{
    Client, Error, Retry,
    types::{ExecutorRequest, FinishRequest, LeaseRequest, RenewRequest, TokenRequest},
};

use crate::support;

/// Stands for what nobody is to see.
const TOKEN: &str = "pineapple";

/// All that an error says to whoever prints or logs it.
fn told(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |it| it.source());
    let causes: Vec<String> = causes.map(|cause| format!("{cause} {cause:?}")).collect();
    causes.join("\n")
}

#[tokio::test]
async fn a_service_that_is_away_is_told_without_the_lease_s_token() {
    // The listener that had this port has gone.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let base = format!("http://user:{TOKEN}@{gone}");
    let client = Client::new(&base).unwrap().with_retry(Retry::never());
    let ends = [
        client.renew_lease(TOKEN, &RenewRequest::default()).await.map(drop).unwrap_err(),
        client.finish_lease(TOKEN, &FinishRequest::default()).await.map(drop).unwrap_err(),
        client.release_lease(TOKEN).await.unwrap_err(),
    ];
    for error in ends {
        let told = told(&error);
        assert!(!told.contains(TOKEN), "{told}");
        assert!(told.contains(&gone.to_string()), "where it was looked for: {told}");
    }
}

#[tokio::test]
async fn a_proxy_that_repeats_the_path_tells_no_token() {
    let (client, _served) = support::server([
        "HTTP/1.1 404 X\r\nconnection: close\r\n\r\n<p>Cannot POST /leases/pineapple/renew",
    ])
    .await;
    let client = client.with_retry(Retry::never());
    let error = client.renew_lease(TOKEN, &RenewRequest::default()).await.unwrap_err();
    let told = told(&error);
    assert!(told.contains("Cannot POST /leases/.../renew"), "{told}");
    assert!(!told.contains(TOKEN), "{told}");
}

#[tokio::test]
async fn what_cannot_be_read_of_an_answer_with_secrets_is_not_shown() {
    const ANSWER: &str =
        "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n{\"leases\": [{\"token\": \"pineapple\"}]}";
    let (client, _served) = support::server([ANSWER, ANSWER, ANSWER]).await;
    let client = client.with_retry(Retry::never());
    let lease = LeaseRequest { worker_id: "w".to_owned(), ..LeaseRequest::default() };
    let token = TokenRequest {
        name: "t".to_owned(),
        scopes: Vec::new(),
        queue_names: None,
        expires_at: None,
    };
    let ends = [
        client.lease_tasks("e", &lease).await.map(drop).unwrap_err(),
        client.create_token(&token).await.map(drop).unwrap_err(),
        client.put_executor("e", &ExecutorRequest::default()).await.map(drop).unwrap_err(),
    ];
    for error in ends {
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
        assert!(!told(&error).contains(TOKEN), "{error:?}");
    }
}
