//! The log of all events: what it keeps, for whom, and in which order.

use std::{collections::BTreeMap, time::Duration};

use diesel::{Connection, PgConnection, connection::SimpleConnection};
use futures_util::StreamExt;
use nightshift::{api::EVENT_STREAMS_MAX, domain::event::EventRetention};
use nightshift_client::{
    Heard,
    types::{TaskBatch, TaskEventType, TaskRequest, TaskStatus},
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use uuid::Uuid;

use crate::support::{app::Builder as App, events::Reader, on_both_engines, soon};

/// Taken by who needs more file descriptors than a process may have twice.
static DESCRIPTORS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

on_both_engines! {
    async fn b94_who_comes_too_late_is_told_that_events_are_gone(app: App) {
        let app = app.start();
        let mut all = Reader::all(&app.client, None).await;
        for _ in 0..5 {
            app.enqueue("a.b").await;
        }
        let first = { all.event().await; all.last.clone().unwrap() };
        all.events(4).await;
        let last = all.last.clone().unwrap();
        let none = EventRetention { age: Duration::ZERO, bytes: 0 };
        while app.store().trim_events(none).await.unwrap() {}
        // The process that has them in memory still can tell.
        let app = app.stop().await.start();
        let mut late = Reader::all(&app.client, Some(&first)).await;
        assert_eq!(late.heard().await, Some(Heard::Reset));
        let mut in_time = Reader::all(&app.client, Some(&last)).await;
        let id = app.enqueue("a.c").await.id;
        for reader in [&mut late, &mut in_time] {
            assert_eq!(reader.event().await.task_id, id, "nothing was missed by the second");
        }
        // A place of another database.
        let mut foreign = Reader::all(&app.client, Some("999999999")).await;
        assert_eq!(foreign.heard().await, Some(Heard::Reset));
    }

    async fn b78_events_are_bounded_in_age_and_bytes(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let mut all = Reader::all(&app.client, None).await;
        let mut ids = Vec::new();
        for minute in 0..10 {
            app.enqueue(&format!("t{minute}")).await;
            all.event().await;
            ids.push(all.last.clone().unwrap());
            clock.advance(Duration::from_mins(1));
        }
        let app = app.stop().await.start();
        let remembered = async |at: &str| {
            Reader::all(&app.client, Some(at)).await.heard().await != Some(Heard::Reset)
        };
        let keep = EventRetention { age: Duration::from_secs(290), bytes: u64::MAX };
        while app.store().trim_events(keep).await.unwrap() {}
        assert!(!remembered(&ids[4]).await && remembered(&ids[5]).await, "four minutes and more");
        let keep = EventRetention { age: Duration::MAX, bytes: 400 };
        while app.store().trim_events(keep).await.unwrap() {}
        assert!(!remembered(&ids[6]).await && remembered(&ids[7]).await, "two of about 190 bytes");
    }

    async fn a_reader_that_stands_still_misses_nothing(app: App) {
        const TASKS: usize = 20_000;
        let app = app.start();
        let address = app.server.strip_prefix("http://").unwrap();
        let mut still = tokio::net::TcpStream::connect(address).await.unwrap();
        still.write_all(b"GET /events HTTP/1.0\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        soon("the head", still.read_exact(&mut head)).await.unwrap();
        let mut quick = Reader::all(&app.client, None).await;
        let path = "x".repeat(250);
        for _ in 0..TASKS / 5_000 {
            let tasks = (0..5_000).map(|_| TaskRequest::new(&path)).collect();
            app.client.create_tasks(&TaskBatch { tasks }).await.unwrap();
        }
        quick.events(TASKS).await;
        let mut lines = BufReader::new(still).lines();
        let mut seen = 0;
        while seen < TASKS {
            let line = soon("a line", lines.next_line()).await.unwrap().unwrap();
            seen += usize::from(line.starts_with("data: "));
        }
    }

    async fn so_many_readers_and_no_more(app: App) {
        let _turn = DESCRIPTORS.lock().await;
        let app = app.start();
        let address = app.server.strip_prefix("http://").unwrap();
        let mut open = Vec::new();
        for _ in 0..EVENT_STREAMS_MAX {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /events HTTP/1.0\r\n\r\n").await.unwrap();
            let mut head = [0; 12];
            soon("the head", stream.read_exact(&mut head)).await.unwrap();
            assert!(head.ends_with(b" 200"), "{}", open.len());
            open.push(stream);
        }
        let one_more = app.send(app.request("GET", "/events")).await;
        assert_eq!(one_more.problem(), "503 overloaded -");
        let id = app.enqueue("a.b").await.id;
        app.task(id).await;
    }

    async fn streams_end_when_the_service_stops(app: App) {
        let app = app.start();
        let mut all = Reader::all(&app.client, None).await;
        let mut watch = Reader::task(&app.client, app.enqueue("a.b").await.id).await;
        all.event().await;
        watch.event().await;
        app.stop().await;
        assert!(soon("the end", all.events.next()).await.is_none_or(|end| end.is_err()));
        assert!(soon("the end", watch.events.next()).await.is_none_or(|end| end.is_err()));
    }

    async fn what_is_no_place_is_refused(app: App) {
        let app = app.start();
        let id = app.enqueue("a.b").await.id;
        let problem = async |path: &str, last: &str| {
            let request = app.request("GET", path).header("Last-Event-ID", last);
            app.send(request).await.problem()
        };
        for last in ["x", "1.", "-1", "1.2.3", "+1", "99999999999999999999", "1.99999999999"] {
            assert_eq!(problem("/events", last).await, "400 invalid_cursor -", "{last}");
        }
        let path = format!("/tasks/{id}/events");
        for last in ["x", "1", "1.2", "1.2.3.4", "1.-2.3"] {
            assert_eq!(problem(&path, last).await, "400 invalid_cursor -", "{last}");
        }
        assert_eq!(problem("/events?typ=task.log", "1").await, "400 invalid_query -");
        assert_eq!(problem("/events?type=task.lag", "1").await, "400 invalid_query -");
        let unknown = format!("/tasks/{}/events", Uuid::nil());
        assert_eq!(problem(&unknown, "1.0.0").await, "404 task_not_found -");
        assert_eq!(problem("/tasks/x/events", "1.0.0").await, "404 task_not_found -");
        // Numbers that this task has not come to: told from the beginning, and that it is so.
        let events = app.client.get_task_events(id, Some("77.0.0")).await.unwrap().unwrap();
        let mut reader = Reader { events, last: None };
        assert_eq!(reader.heard().await, Some(Heard::Reset));
        assert_eq!(reader.event().await.event_type, TaskEventType::Enqueued);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_all_processes_on_postgres_are_told_the_same() {
    const TASKS: usize = 150;
    let first = App::postgres().start();
    let apps = [first.replica(|_| {}), first.replica(|_| {}), first];
    let mut readers = Vec::new();
    for app in &apps {
        readers.push(Reader::all(&app.client, None).await);
    }
    let enqueuing = apps.iter().map(|app| async move {
        for _ in 0..TASKS {
            let id = app.enqueue("a.b").await.id;
            app.client.cancel_task(id, false).await.unwrap();
        }
    });
    let reading = readers.iter_mut().map(|reader| reader.events(2 * TASKS * 3));
    let (_, told) = Box::pin(async {
        tokio::join!(
            futures_util::future::join_all(enqueuing),
            futures_util::future::join_all(reading)
        )
    })
    .await;
    assert!(told[0] == told[1] && told[1] == told[2], "the same, in the same order");
    let mut seen: BTreeMap<Uuid, TaskStatus> = BTreeMap::new();
    for event in &told[0] {
        let before = seen.insert(event.task_id, event.status);
        let cause = (event.event_type == TaskEventType::Finished).then_some(TaskStatus::Ready);
        assert_eq!(before, cause, "each once, and the effect after its cause");
    }
    assert_eq!(seen.len(), 3 * TASKS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_comes_late_on_postgres_is_not_missed() {
    let app = App::postgres().start();
    let mut all = Reader::all(&app.client, None).await;
    let mut slow = PgConnection::establish(&app.database_url()).unwrap();
    let line = format!(
        r#"{{"id":"{}","path":"slow","queue":"q","stage":1,"attempt":0,"change":"retried"}}"#,
        Uuid::nil()
    );
    slow.batch_execute(&format!(
        "BEGIN; INSERT INTO events (at, bytes, lines) VALUES (1, 1, '{line}')"
    ))
    .unwrap();
    // Places after the one that is not yet to be seen.
    for _ in 0..3 {
        app.enqueue("quick").await;
    }
    slow.batch_execute("COMMIT").unwrap();
    let told: Vec<String> = all.events(4).await.into_iter().map(|e| e.task_path).collect();
    assert_eq!(told, ["slow", "quick", "quick", "quick"]);
    // A place that nobody fills.
    slow.batch_execute("BEGIN; INSERT INTO events (at, bytes, lines) VALUES (1, 1, ''); ROLLBACK")
        .unwrap();
    app.enqueue("after").await;
    assert_eq!(all.event().await.task_path, "after");
}
