//! Which calls are made again, and which are not.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use nightshift_client::{
    Client, EnqueueOptions, Error, Retry,
    types::{
        ExecutorChange, ExecutorRequest, FinishBatch, FinishRequest, LeaseRequest, LogLevel,
        LogLineRequest, PruneRequest, QueueChange, RenewRequest, RollbackRequest, TaskBatch,
        TaskRequest,
    },
};
use uuid::Uuid;

use crate::support::{BREAK, server};

const OVERLOADED: &str = "HTTP/1.1 503 X\r\nconnection: close\r\n\r\n\
     {\"type\":\"t\",\"title\":\"T\",\"status\":503,\"code\":\"overloaded\",\"detail\":\"d\"}";
const UNAVAILABLE: &str = "HTTP/1.1 503 X\r\nconnection: close\r\n\r\n\
     {\"type\":\"t\",\"title\":\"T\",\"status\":503,\"code\":\"unavailable\",\"detail\":\"d\"}";
const BAD_GATEWAY: &str = "HTTP/1.1 502 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const TOO_MANY: &str = "HTTP/1.1 429 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const BROKEN_ANSWER: &str = "HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{";
const NOT_FOUND: &str = "HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What a call came to, its own answer aside.
type Called<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;

struct Operation {
    name: &'static str,
    call: fn(&Client) -> Called<'_>,
    /// Whether it is made again when nobody knows what became of it.
    again: bool,
}

macro_rules! operations {
    ($($again:literal $name:literal |$client:ident| $call:expr;)*) => {
        [$(Operation {
            name: $name,
            call: |$client| Box::pin(async move { $call.await.map(drop) }),
            again: $again,
        },)*]
    };
}

fn task(id: Option<Uuid>) -> TaskRequest {
    TaskRequest { id, ..TaskRequest::new("a.b") }
}

fn batch(ids: [Option<Uuid>; 2]) -> TaskBatch {
    TaskBatch { tasks: ids.map(task).into() }
}

fn keyed() -> EnqueueOptions {
    EnqueueOptions { idempotency_key: Some("k".into()), ..EnqueueOptions::default() }
}

fn line() -> RenewRequest {
    let line = LogLineRequest { at: None, level: LogLevel::Info, message: "m".into() };
    RenewRequest { logs: vec![line], ..RenewRequest::default() }
}

fn rollback(digest: Option<&str>) -> RollbackRequest {
    RollbackRequest { digest: digest.map(str::to_owned) }
}

fn operations() -> impl IntoIterator<Item = Operation> {
    const ID: Option<Uuid> = Some(Uuid::nil());
    operations! {
        true "get_task" |client| client.get_task(Uuid::nil(), None);
        true "list_queues" |client| client.list_queues(None, None);
        true "put_executor" |client| client.put_executor("a", &ExecutorRequest::default());
        true "update_executor" |client| client.update_executor("a", &ExecutorChange::default());
        true "update_queue" |client| client.update_queue("a", &QueueChange::default());
        true "delete_task" |client| client.delete_task(Uuid::nil());
        true "create_task with an id" |client| client.create_task(&task(ID), &EnqueueOptions::default());
        true "create_task with a key" |client| client.create_task(&task(None), &keyed());
        false "create_task" |client| client.create_task(&task(None), &EnqueueOptions::default());
        true "create_tasks with ids" |client| client.create_tasks(&batch([ID, ID]));
        false "create_tasks" |client| client.create_tasks(&batch([ID, None]));
        true "cancel_task" |client| client.cancel_task(Uuid::nil(), false);
        false "retry_task" |client| client.retry_task(Uuid::nil());
        false "prune_tasks" |client| client.prune_tasks(&PruneRequest::default());
        true "roll_back_plugin to one" |client| client.roll_back_plugin("a", &rollback(Some("d")));
        false "roll_back_plugin" |client| client.roll_back_plugin("a", &rollback(None));
        false "lease_tasks" |client| client.lease_tasks("a", &LeaseRequest::default());
        true "renew_lease" |client| client.renew_lease("t", &RenewRequest::default());
        false "renew_lease with logs" |client| client.renew_lease("t", &line());
        true "finish_lease" |client| client.finish_lease("t", &FinishRequest::default());
        true "finish_leases" |client| client.finish_leases(&FinishBatch::default());
        true "release_lease" |client| client.release_lease("t");
    }
}

#[tokio::test]
async fn what_did_not_begin_is_made_again() {
    let checks = operations().into_iter().map(|operation| async move {
        let (client, served) = server([OVERLOADED, TOO_MANY, NOT_FOUND]).await;
        let error = (operation.call)(&client).await.unwrap_err();
        let name = operation.name;
        assert!(matches!(error, Error::Foreign { status: 404, .. }), "{name}: {error:?}");
        assert_eq!(served.await.unwrap().len(), 3, "{name}");
    });
    futures_util::future::join_all(checks).await;
}

#[tokio::test]
async fn what_may_have_been_done_is_made_again_only_where_that_does_no_harm() {
    let failures = [BREAK, BROKEN_ANSWER, UNAVAILABLE, BAD_GATEWAY];
    let checks = failures.into_iter().flat_map(|failure| {
        operations().into_iter().map(move |operation| async move {
            let Operation { name, call, again } = operation;
            let answers = if again { vec![failure, NOT_FOUND] } else { vec![failure] };
            let (client, served) = server(answers).await;
            let error = call(&client).await.unwrap_err();
            let answered = matches!(error, Error::Foreign { status: 404, .. });
            assert_eq!(answered, again, "{name} after {failure:?}: {error:?}");
            let refused = matches!(&error, Error::Transport(error) if error.is_connect());
            assert!(!refused, "{name} was made again after {failure:?}");
            let requests = served.await.unwrap();
            assert!(requests.iter().all(|request| *request == requests[0]), "{requests:?}");
        })
    });
    futures_util::future::join_all(checks).await;
}

#[tokio::test]
async fn other_answers_are_final() {
    for status in ["400", "409", "500", "501"] {
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").leak();
        let (client, served) = server([&*answer]).await;
        let error = client.get_stats().await.unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{status}: {error:?}");
        assert_eq!(served.await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn tries_are_bounded() {
    let (client, served) = server([TOO_MANY, TOO_MANY, NOT_FOUND]).await;
    let client = client.with_retry(Retry::default().tries(2));
    let error = client.get_stats().await.unwrap_err();
    assert!(matches!(error, Error::Foreign { status: 429, .. }), "{error:?}");
    served.abort();
    let (client, served) = server([TOO_MANY, NOT_FOUND]).await;
    let client = client.with_retry(Retry::default().within(Duration::from_millis(1)));
    let error = client.get_stats().await.unwrap_err();
    assert!(matches!(error, Error::Foreign { status: 429, .. }), "{error:?}");
    served.abort();
    let (client, served) = server([TOO_MANY, NOT_FOUND]).await;
    let error = client.with_retry(Retry::never()).get_stats().await.unwrap_err();
    assert!(matches!(error, Error::Foreign { status: 429, .. }), "{error:?}");
    served.abort();
}

#[tokio::test]
async fn the_service_is_not_asked_again_before_it_wants() {
    const LATER: &str =
        "HTTP/1.1 429 X\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const MUCH_LATER: &str =
        "HTTP/1.1 429 X\r\nretry-after: 60\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (client, served) = server([LATER, NOT_FOUND]).await;
    let asked = Instant::now();
    client.get_stats().await.unwrap_err();
    assert!(asked.elapsed() > Duration::from_secs(1));
    assert_eq!(served.await.unwrap().len(), 2);
    let (client, served) = server([MUCH_LATER]).await;
    let error = client.get_stats().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_mins(1)), "longer than it would try");
    assert_eq!(served.await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_asked_again() {
    let (client, served) = server([]).await;
    served.await.unwrap();
    let client = client.with_retry(Retry::default().tries(2));
    let asked = Instant::now();
    let error = client.lease_tasks("a", &LeaseRequest::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Transport(error) if error.is_connect()), "{error:?}");
    assert!(asked.elapsed() >= Duration::from_millis(200), "the pause between two tries");
}
