//! Enqueuing and waiting, where the service does not do what is expected of it.

use std::time::Duration;

use nightshift_client::{Error, WaitError};
use uuid::Uuid;

use crate::support::server;

const UNFINISHED: &str = "HTTP/1.1 202 X\r\nconnection: close\r\n\r\n\
    {\"id\":\"01a216c3-abef-74d8-a978-cf1b01ef1ab1\",\"status\":\"RUNNING\",\"return_value\":null,\
    \"errors\":[],\"finished_at\":null}";
const FINISHED: &str = "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n\
    {\"id\":\"01a216c3-abef-74d8-a978-cf1b01ef1ab1\",\"status\":\"SUCCESSFUL\",\
    \"return_value\":[1e-7],\"errors\":[],\"finished_at\":null}";

#[tokio::test]
async fn waiting_goes_on_until_the_task_has_ended() {
    let (client, served) = server([UNFINISHED, UNFINISHED, FINISHED]).await;
    let task = client.task_handle(Uuid::nil());
    assert_eq!(task.wait::<Vec<f64>>().await.unwrap(), [1e-7]);
    assert_eq!(served.await.unwrap().len(), 3);
    let (client, _served) = server([FINISHED]).await;
    let error = client.task_handle(Uuid::nil()).wait::<String>().await.unwrap_err();
    assert!(matches!(error, WaitError::Unreadable { .. }), "{error:?}");
}

#[tokio::test]
async fn arguments_that_are_not_json_are_not_sent() {
    let (client, served) = server([]).await;
    served.await.unwrap();
    let keys = std::collections::HashMap::from([((1, 2), 3)]);
    let error = client.enqueue("a.b").kwargs(keys).args([1]).send().await.unwrap_err();
    assert!(matches!(error, Error::Request(_)), "{error:?}");
}

#[tokio::test]
async fn a_bound_ends_the_wait() {
    let (client, _served) = server([UNFINISHED]).await;
    let limit = Duration::from_millis(100);
    let error = client.task_handle(Uuid::nil()).wait_within::<()>(limit).await.unwrap_err();
    assert!(matches!(error, WaitError::NotEnded { .. }), "{error:?}");
}
