//! Streams of events that end otherwise than they ought to.

use futures_util::{StreamExt, pin_mut};
use nightshift_client::{Client, Error, EventFilter, Heard};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use uuid::Uuid;

use crate::support::server;

const STREAM: &str = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\
    connection: close\r\n\r\nretry: 1000\n\nevent: task.lagged\nid: 6\ndata: {}\n\n\
    event: task.deleted\nid: 7\ndata: {\"type\":\"task.deleted\",\
    \"task_id\":\"01a216c3-abef-74d8-a978-cf1b01ef1ab1\",\"task_path\":\"a.b\",\
    \"queue_name\":\"q\",\"status\":\"FAILED\",\"attempt\":1,\
    \"at\":\"2026-11-26T00:00:00.000000Z\"}\n\n";
const RESET: &str = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\
    connection: close\r\n\r\nevent: reset\ndata: {}\n\n";
const OVER: &str = "HTTP/1.1 204 X\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_watch_comes_back_with_what_it_has_seen_last() {
    let (client, served) = server([STREAM, RESET, OVER]).await;
    let watch = client.watch_task(Uuid::nil());
    pin_mut!(watch);
    // The one before is of a kind that this version does not know.
    let first = watch.next().await.unwrap().unwrap();
    assert!(matches!(first, Heard::Event { id, .. } if id == "7"));
    assert_eq!(watch.next().await.unwrap().unwrap(), Heard::Reset);
    assert!(watch.next().await.is_none());
    let requests = served.await.unwrap();
    let last = |request: &String| request.contains("last-event-id: 7\r\n");
    assert_eq!(requests.iter().map(last).collect::<Vec<_>>(), [false, true, true]);
}

#[tokio::test]
async fn a_watch_of_a_service_that_is_not_there_is_an_error_at_once() {
    let (client, served) = server([]).await;
    served.await.unwrap();
    let client = client.with_retry(nightshift_client::Retry::never());
    let watch = client.watch_events(EventFilter::default());
    pin_mut!(watch);
    assert!(matches!(watch.next().await.unwrap(), Err(Error::Transport(_))));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_connection_that_has_died_without_a_word_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let all = EventFilter::default();
    let opening = client.get_events(&all, None);
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(STREAM.as_bytes()).await.unwrap();
        stream
    };
    let (events, _open) = tokio::join!(opening, answering);
    let mut events = events.unwrap();
    events.next().await.unwrap().unwrap();
    tokio::time::pause();
    let error = events.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Stream(_)) && error.is_transient(), "{error:?}");
}
