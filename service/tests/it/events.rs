//! Watching what happens: to one task, and to all.

use std::{collections::BTreeMap, time::Duration};

use diesel::{Connection, PgConnection, connection::SimpleConnection};
use futures_util::StreamExt;
use nightshift::domain::event::EventRetention;
use nightshift_client::{
    EventFilter, Heard,
    types::{
        ErrorCode, ErrorReport, FinishRequest, LogLevel, LogLineRequest, Progress, RenewRequest,
        TaskBatch, TaskErrorKind, TaskEventType, TaskRequest, TaskStatus,
    },
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use uuid::Uuid;

use crate::support::{
    app::{Builder as App, TestApp, value},
    events::{Reader, story},
    on_both_engines, soon,
};

fn error() -> FinishRequest {
    let error = ErrorReport { message: Some("no".to_owned()), ..ErrorReport::default() };
    FinishRequest { error: Some(error), ..FinishRequest::default() }
}

fn log(message: &str) -> RenewRequest {
    let line = LogLineRequest { at: None, level: LogLevel::Warning, message: message.to_owned() };
    RenewRequest { logs: vec![line], ..RenewRequest::default() }
}

fn progress(fraction: f64) -> RenewRequest {
    let progress = Progress { fraction: Some(fraction), message: None };
    RenewRequest { progress: Some(progress), ..RenewRequest::default() }
}

const WHOLE_STORY: &str = "enqueued/READY/0 started/RUNNING/1 progress/RUNNING/1 log/RUNNING/1 \
     attempt_failed/READY/1 started/RUNNING/2 cancel_requested/RUNNING/2 finished/CANCELLED/2 \
     retried/READY/2 started/RUNNING/3 finished/SUCCESSFUL/3";

/// Leads a task through all of that, and calls `told` after each step.
async fn live(app: &TestApp, mut told: impl AsyncFnMut(Uuid)) -> Uuid {
    let worker = app.register_workers("tom", |_| {}).await;
    let backoff = r#"{"initial_seconds": 0.001, "jitter": 0}"#;
    let request = TaskRequest {
        backoff: Some(serde_json::from_str(backoff).unwrap()),
        ..TaskRequest::new("a.b")
    };
    let id = app.enqueue_with(request).await.id;
    told(id).await;
    let lease = worker.next().await;
    told(id).await;
    for renewal in [progress(0.5), log("warm")] {
        app.client.renew_lease(&lease.token, &renewal).await.unwrap();
        told(id).await;
    }
    worker.finish(&lease, error()).await.unwrap();
    told(id).await;
    let lease = worker.next().await;
    told(id).await;
    app.client.cancel_task(id, false).await.unwrap();
    told(id).await;
    let cancelled = FinishRequest { cancelled: true, ..FinishRequest::default() };
    worker.finish(&lease, cancelled).await.unwrap();
    told(id).await;
    app.client.retry_task(id).await.unwrap();
    told(id).await;
    let lease = worker.next().await;
    told(id).await;
    worker.finish(&lease, value("7")).await.unwrap();
    told(id).await;
    id
}

on_both_engines! {
    async fn everything_is_told_as_it_happens(app: App) {
        let app = app.start();
        let mut all = Reader::all(&app.client, None).await;
        let mut heard = Vec::new();
        let id = live(&app, async |_| heard.push(all.event().await)).await;
        assert_eq!(story(&heard), WHOLE_STORY);
        assert!(heard.iter().all(|event| event.task_id == id && event.task_path == "a.b"));
        assert_eq!(heard[1].worker_id.as_deref(), Some("w1"));
        assert_eq!(heard[2].progress.as_ref().unwrap().fraction, Some(0.5));
        let line = &heard[3].logs[0];
        assert_eq!((line.level, line.message.as_str()), (LogLevel::Warning, "warm"));
        let failed = heard[4].error.as_ref().unwrap();
        assert_eq!((failed.kind, failed.message.as_str()), (TaskErrorKind::Exception, "no"));
        assert!(heard[4].run_after.is_some());
        assert_eq!(heard[7].error.as_ref().unwrap().kind, TaskErrorKind::Cancelled);
        assert!(heard.is_sorted_by_key(|event| event.at));
    }

    async fn one_task_is_told_as_it_happens_and_to_its_end(app: App) {
        let app = app.start();
        let mut watch: Option<Reader> = None;
        let mut heard = Vec::new();
        live(&app, async |id| {
            if watch.is_none() {
                watch = Some(Reader::task(&app.client, id).await);
            }
            // Its first end is the stream's; what follows is told who comes back.
            let reader = watch.as_mut().unwrap();
            if let Some(Heard::Event { event, .. }) = reader.heard().await {
                heard.push(*event);
            } else {
                    let last = reader.last.clone();
                    let events = app.client.get_task_events(id, last.as_deref()).await.unwrap();
                    watch = Some(Reader { events: events.unwrap(), last });
                    heard.push(watch.as_mut().unwrap().event().await);
            }
        })
        .await;
        assert_eq!(story(&heard), WHOLE_STORY);
        assert_eq!(watch.unwrap().rest().await, [], "its second end, too");
    }

    async fn b94_who_comes_after_the_end_is_told_everything(app: App) {
        let app = app.start();
        let id = live(&app, async |_| {}).await;
        let mut watch = Reader::task(&app.client, id).await;
        let mut ids = Vec::new();
        let mut events = Vec::new();
        while let Some(heard) = watch.heard().await {
            let Heard::Event { id, event } = heard else { panic!("{heard:?}") };
            ids.push(id);
            events.push(*event);
        }
        // Of the progress only the latest would be told, and that attempt is over.
        let without_progress = WHOLE_STORY.replace("progress/RUNNING/1 ", "");
        assert_eq!(story(&events), without_progress);
        assert_eq!(events[2].logs[0].message, "warm");
        assert_eq!(events[3].error.as_ref().unwrap().message, "no");
        for (index, last) in ids.iter().enumerate() {
            let rest = app.client.get_task_events(id, Some(last)).await.unwrap();
            match rest {
                Some(rest) => {
                    let rest = Reader { events: rest, last: None }.rest().await;
                    assert_eq!(rest, events[index + 1..], "after {last}");
                }
                None => assert_eq!(index + 1, ids.len(), "after {last}"),
            }
        }
        let all_seen = app.request("GET", &format!("/tasks/{id}/events?last_event_id={}", ids.last().unwrap()));
        assert_eq!(app.send(all_seen).await.status, 204);
    }

    async fn b93_who_comes_back_goes_on_where_he_was(app: App) {
        let app = app.start();
        let mut all = Reader::all(&app.client, None).await;
        let tasks = (0..3).map(|_| TaskRequest::new("none")).collect();
        app.client.create_tasks(&TaskBatch { tasks }).await.unwrap();
        live(&app, async |_| {}).await;
        let count = 3 + WHOLE_STORY.split(' ').count();
        let mut seen = Vec::new();
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(all.event().await);
            seen.push(all.last.clone().unwrap());
        }
        for (index, last) in seen.iter().enumerate().take(count - 1) {
            let mut again = Reader::all(&app.client, Some(last)).await;
            assert_eq!(again.events(count - index - 1).await, events[index + 1..], "after {last}");
        }
        // Another process, which has to read all of it from the table.
        let app = app.stop().await.start();
        let mut again = Reader::all(&app.client, seen.first().map(String::as_str)).await;
        assert_eq!(again.events(count - 1).await, events[1..]);
    }

    async fn b93_only_events_have_ids(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let address = app.server.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let mut line = async || soon("a line", lines.next_line()).await.unwrap().unwrap();
        let mut head = Vec::new();
        loop {
            match line().await {
                blank if blank.is_empty() => break,
                header => head.push(header.to_ascii_lowercase()),
            }
        }
        assert!(head.contains(&"content-type: text/event-stream".to_owned()), "{head:?}");
        assert!(head.contains(&"cache-control: no-store".to_owned()), "{head:?}");
        while line().await != "retry: 1000" {}
        // It may not have begun to wait when the clock is moved.
        let silence = async {
            loop {
                clock.advance(Duration::from_secs(15));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let mut between = Vec::new();
        let comment = async {
            loop {
                let line = line().await;
                if line == ": still here" {
                    return;
                }
                between.push(line);
            }
        };
        tokio::select! { () = silence => {}, () = comment => {} }
        assert!(between.iter().all(|line| !line.contains("id")), "{between:?}");
        let id = app.enqueue("a.b").await.id;
        let mut event = Vec::new();
        while event.len() < 3 {
            let line = line().await;
            if ["event: ", "id: ", "data: "].iter().any(|start| line.starts_with(start)) {
                event.push(line);
            }
        }
        assert_eq!(event[0], "event: task.enqueued");
        assert!(event[1].strip_prefix("id: ").unwrap().parse::<u64>().is_ok(), "{event:?}");
        assert!(event[2].contains(&id.to_string()), "{event:?}");
    }

    async fn b95_every_end_is_told_once_and_ends_the_stream(app: App) {
        let (app, clock) = app.with_manual_clock();
        let app = app.start();
        let mut all = Reader::all(&app.client, None).await;
        let worker = app.register_workers("tom", |request| {
            request.task_paths = vec!["run.*".to_owned()];
            request.lease_seconds = Some(2);
        }).await;
        let once = |path: &str| TaskRequest { max_attempts: Some(1), ..TaskRequest::new(path) };
        let enqueue = async |request: TaskRequest| app.enqueue_with(request).await.id;
        let soon_over = Some("2026-11-25T12:00:01Z".parse().unwrap());
        let succeeds = enqueue(once("run.succeeds")).await;
        let fails = enqueue(once("run.fails")).await;
        let cancelled = enqueue(once("run.cancelled")).await;
        let forced = enqueue(once("run.forced")).await;
        let lost = enqueue(once("run.lost")).await;
        let waiting = enqueue(once("wait.cancelled")).await;
        let expires = enqueue(TaskRequest { expires_at: soon_over, ..once("wait.expires") }).await;
        let ids = [succeeds, fails, cancelled, forced, lost, waiting, expires];
        let mut watches = Vec::new();
        for id in ids {
            watches.push(Reader::task(&app.client, id).await);
        }
        let leases = worker.lease(10).await;
        let lease = |id| leases.iter().find(|lease| lease.task.id == id).unwrap();
        worker.succeed(lease(succeeds)).await;
        worker.finish(lease(fails), error()).await.unwrap();
        app.client.cancel_task(cancelled, false).await.unwrap();
        let end = FinishRequest { cancelled: true, ..FinishRequest::default() };
        worker.finish(lease(cancelled), end).await.unwrap();
        app.client.cancel_task(forced, true).await.unwrap();
        app.client.cancel_task(waiting, false).await.unwrap();
        clock.advance(Duration::from_secs(3));
        for (id, mut watch) in ids.into_iter().zip(watches) {
            let events = watch.rest().await;
            let ends = events.iter().filter(|e| e.event_type == TaskEventType::Finished).count();
            assert_eq!(ends, 1, "{}", story(&events));
            let end = events.last().unwrap();
            assert_eq!(end.event_type, TaskEventType::Finished);
            assert_eq!(end.status, app.task(id).await.status);
        }
        app.client.delete_task(succeeds).await.unwrap();
        let mut ends: BTreeMap<Uuid, Vec<TaskEventType>> = BTreeMap::new();
        loop {
            let event = all.event().await;
            if event.status.is_finished() {
                ends.entry(event.task_id).or_default().push(event.event_type);
            }
            if event.event_type == TaskEventType::Deleted {
                break;
            }
        }
        let deleted = [TaskEventType::Finished, TaskEventType::Deleted];
        assert_eq!(ends.remove(&succeeds).unwrap(), deleted);
        assert_eq!(ends.len(), ids.len() - 1);
        assert!(ends.values().all(|types| *types == [TaskEventType::Finished]), "{ends:?}");
        let gone = app.client.get_task_events(succeeds, None).await.err().unwrap();
        assert_eq!(gone.code(), Some(ErrorCode::TaskNotFound));
    }

    async fn a_task_that_was_given_back_is_told_so(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let id = app.enqueue("a.b").await.id;
        let mut watch = Reader::task(&app.client, id).await;
        app.client.release_lease(&worker.next().await.token).await.unwrap();
        worker.succeed(&worker.next().await).await;
        let told = story(&watch.rest().await);
        assert_eq!(
            told,
            "enqueued/READY/0 started/RUNNING/1 released/READY/1 started/RUNNING/1 \
             finished/SUCCESSFUL/1"
        );
    }

    async fn a_long_log_is_told_whole_and_in_order(app: App) {
        let app = app.start();
        let worker = app.register_workers("tom", |_| {}).await;
        let id = app.enqueue("a.b").await.id;
        let lease = worker.next().await;
        for part in 0..3 {
            let line = |n| LogLineRequest { at: None, level: LogLevel::Info, message: format!("{}", part * 700 + n) };
            let logs = RenewRequest { logs: (0..700).map(line).collect(), ..RenewRequest::default() };
            app.client.renew_lease(&lease.token, &logs).await.unwrap();
        }
        worker.succeed(&lease).await;
        let events = Reader::task(&app.client, id).await.rest().await;
        let lines: Vec<String> =
            events.iter().flat_map(|event| &event.logs).map(|line| line.message.clone()).collect();
        assert_eq!(lines, (0..2_100).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(events.last().unwrap().event_type, TaskEventType::Finished);
    }

    async fn filters_let_through_what_they_name(app: App) {
        let app = app.start();
        let filters = [
            EventFilter { task_path: Some("a.*".to_owned()), ..EventFilter::default() },
            EventFilter { queue_name: Some("mail".to_owned()), ..EventFilter::default() },
            EventFilter { event_type: Some(TaskEventType::Finished), ..EventFilter::default() },
        ];
        let mut readers = Vec::new();
        for filter in &filters {
            let events = app.client.get_events(filter, None).await.unwrap();
            readers.push(Reader { events, last: None });
        }
        let mail = TaskRequest { queue_name: Some("mail".to_owned()), ..TaskRequest::new("b.c") };
        let mail = app.enqueue_with(mail).await.id;
        app.client.cancel_task(mail, false).await.unwrap();
        let other = app.enqueue("a.b").await.id;
        app.client.cancel_task(other, false).await.unwrap();
        let mut told = Vec::new();
        for reader in &mut readers {
            told.push(story(&reader.events(2).await));
        }
        let both = "enqueued/READY/0 finished/CANCELLED/0";
        assert_eq!(told, [both, both, "finished/CANCELLED/0 finished/CANCELLED/0"]);
    }

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
async fn readers_of_all_processes_are_told_the_same() {
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
async fn an_event_that_comes_late_in_an_early_place_is_not_missed() {
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
