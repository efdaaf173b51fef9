//! Watching what happens: to one task, and to all.

use std::{collections::BTreeMap, time::Duration};

use nightshift_client::{
    EventFilter, Heard,
    types::{
        ErrorCode, ErrorReport, FinishRequest, LogLevel, LogLineRequest, Progress, RenewRequest,
        TaskBatch, TaskErrorKind, TaskEventType, TaskRequest,
    },
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use uuid::Uuid;

use crate::support::{
    app::{TestApp, value},
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
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let mut line = async || soon("a line", lines.next_line()).await.unwrap().unwrap();
        let mut head = Vec::new();
        loop {
            match line().await {
                blank if blank.is_empty() => break,
                header => head.push(header.to_ascii_lowercase()),
            }
        }
        assert!(head.contains(&"content-type: text/event-stream; charset=utf-8".to_owned()), "{head:?}");
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
            let events = reader.events(2).await;
            let ids: Vec<Uuid> = events.iter().map(|event| event.task_id).collect();
            told.push((story(&events), ids));
        }
        let both = || "enqueued/READY/0 finished/CANCELLED/0".to_owned();
        assert_eq!(told[0], (both(), vec![other, other]));
        assert_eq!(told[1], (both(), vec![mail, mail]));
        let ends = "finished/CANCELLED/0 finished/CANCELLED/0".to_owned();
        assert_eq!(told[2], (ends, vec![mail, other]));
    }
}
