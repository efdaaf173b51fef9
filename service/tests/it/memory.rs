//! A large payload has to find room in memory: what goes out, what comes in, and what calls carry.
//! `make stress-memory` does the same to a process with a real limit.

use std::sync::Arc;

use nightshift_client::{
    EnqueueOptions, TaskFilter,
    types::{ErrorCode, ReasonCode, Task, TaskBatch, TaskRequest, TaskStatus},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
};

use crate::support::{
    app::{Builder, TestApp, json},
    executor::{Reply, TestExecutor},
    metrics::Samples,
    on_both_engines,
    process::binary,
    soon, until,
};

const MIB: usize = 1024 * 1024;

/// A request whose args have so many bytes.
fn large(task_path: &str, bytes: usize) -> TaskRequest {
    let args = json(&format!(r#"["{}"]"#, "x".repeat(bytes)));
    TaskRequest { args, ..TaskRequest::new(task_path) }
}

/// A service with as little room as its bounds allow: 5 MiB for requests, 2 MiB for calls.
fn narrow(mut builder: Builder) -> TestApp {
    builder.config.body_bytes_max = MIB;
    builder.config.batch_bytes_max = MIB;
    builder.config.return_value_bytes_max = MIB;
    builder.config.plugin_bytes_max = MIB;
    builder.config.payload_memory_mib = 8;
    builder.start()
}

/// Somebody who asks, and reads no more than the status.
async fn ask_and_read_nothing(app: &TestApp, path: &str) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    // Bytes that the kernel takes are not the service's any more.
    socket.set_recv_buffer_size(4_096).unwrap();
    let address = app.server.strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    soon("the start of an answer", stream.read_exact(&mut status)).await.unwrap();
    (stream, String::from_utf8_lossy(&status[9..]).into_owned())
}

fn statuses(tasks: &[Task]) -> Vec<(TaskStatus, u32)> {
    tasks.iter().map(|task| (task.status, task.attempts)).collect()
}

on_both_engines! {
    async fn a_lease_takes_no_more_than_its_answer_may_hold(app: App) {
        let mut app = app;
        app.config.body_bytes_max = 20 * MIB;
        let app = app.start();
        let worker = app.register_workers("workers", |_| {}).await;
        let mut ids = vec![app.enqueue_with(large("alone", 17 * MIB)).await.id];
        for _ in 0..6 {
            ids.push(app.enqueue_with(large("some", 3 * MIB)).await.id);
        }
        let alone = worker.lease(1_000).await;
        assert_eq!(alone.len(), 1, "one that is too large for any answer goes alone");
        assert_eq!(alone[0].task.id, ids[0]);
        let some = worker.lease(1_000).await;
        let got: Vec<_> = some.iter().map(|lease| lease.task.id).collect();
        assert_eq!(got, ids[1..6], "as many as fit, in their order");
        let left = app.task(ids[6]).await;
        assert_eq!(statuses(&[left]), [(TaskStatus::Ready, 0)], "nothing was begun for nobody");
        assert_eq!(worker.lease(1_000).await.len(), 1);
    }

    async fn workers_that_ask_together_get_no_more_either(app: App) {
        let app = app.start();
        let worker = app.register_workers("workers", |_| {}).await;
        for _ in 0..9 {
            app.enqueue_with(large("some", 3 * MIB)).await;
        }
        let (one, other) = (worker.named("w1"), worker.named("w2"));
        let (one, other) = tokio::join!(one.lease(1_000), other.lease(1_000));
        assert!(one.len() <= 5 && other.len() <= 5, "{} {}", one.len(), other.len());
        assert_eq!(one.len() + other.len(), 9);
    }

    async fn an_answer_that_finds_no_room_is_refused(app: App) {
        let app = narrow(app);
        let id = app.enqueue_with(large("t", MIB * 9 / 10)).await.id;
        let record = format!("/tasks/{id}");
        let mut unread = Vec::new();
        let refused = loop {
            assert!(unread.len() < 20, "there is no end to what unread answers take");
            let (stream, status) = ask_and_read_nothing(&app, &record).await;
            unread.push(stream);
            if status != "200" {
                break status;
            }
        };
        assert_eq!(refused, "503");
        assert!(unread.len() > 2, "some are answered");
        for path in [record.clone(), format!("{record}/result")] {
            let answer = app.send(app.request("GET", &path)).await;
            assert_eq!(answer.problem(), "503 overloaded -", "{path}");
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        for path in ["/healthz", "/readyz", "/tasks", &format!("{record}/status")] {
            let answer = app.send(app.request("GET", path)).await;
            assert_eq!(answer.status, 200, "{path}: what is small finds its way: {answer:?}");
        }
        drop(unread);
        until("room for an answer", || async {
            app.client.get_task(id, None).await.ok()
        })
        .await;
    }

    async fn a_report_finds_the_room_that_is_kept_for_it(app: App) {
        let app = narrow(app);
        let worker = app.register_workers("workers", |_| {}).await;
        app.enqueue("t").await;
        let lease = worker.next().await;
        // Two bodies that never end leave less than a third would need. That one has to be sent after
        // the two have all of their room: else it can take what one of them needs.
        let address = app.server.strip_prefix("http://").unwrap().to_owned();
        let mut slow = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let head = format!(
                "POST /tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: {MIB}\r\n\r\n{}",
                " ".repeat(MIB * 7 / 10)
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            slow.push(stream);
        }
        let taken = r#"nightshift_payload_memory_bytes{kind="request"}"#;
        until("room for two bodies", || async {
            let bytes = Samples::of(&app).await.get(taken);
            (bytes > f64::from(2 * 3 * 734_003)).then_some(())
        })
        .await;
        let body = large("t", 100 * 1024);
        let refused = app.client.create_task(&body, &EnqueueOptions::default()).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::Overloaded));
        assert_eq!(worker.succeed(&lease).await.status, TaskStatus::Successful);
    }

    async fn a_call_begins_when_there_is_room_for_what_it_carries(app: App) {
        let app = narrow(app);
        let gate = Arc::new(Semaphore::new(0));
        let executor = TestExecutor::start({
            let gate = Arc::clone(&gate);
            move |_| Reply::Later(Arc::clone(&gate), Box::new(Reply::ok("1")))
        })
        .await;
        app.register_as("exec", &executor, |request| request.paused = true).await;
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(app.enqueue_with(large("t", MIB * 8 / 10)).await.id);
        }
        app.register(&executor).await;
        executor.called(2).await;
        let mut running = 0;
        for id in &ids {
            let task = app.task(*id).await;
            running += u32::from(task.status == TaskStatus::Running);
            assert_eq!(task.attempts, u32::from(task.status == TaskStatus::Running));
        }
        assert_eq!(running, 2, "there is room for two");
        let reasons = app.client.explain_task(ids[4]).await.unwrap().reasons;
        assert_eq!(reasons[0].code, ReasonCode::ProcessFull, "{reasons:?}");
        assert!(reasons[0].detail.contains("payload_memory_mib"), "{reasons:?}");
        gate.add_permits(5);
        for id in ids {
            let task = app.end(id).await;
            assert_eq!((task.status, task.attempts), (TaskStatus::Successful, 1));
        }
    }

    async fn pages_end_early_where_their_rows_are_large(app: App) {
        let app = app.start();
        let labels = (0..32).map(|n| (format!("{n:02}"), "\u{1f319}".repeat(255))).collect();
        let task = TaskRequest { labels, ..TaskRequest::new("t") };
        app.client.create_tasks(&TaskBatch { tasks: vec![task; 150] }).await.unwrap();
        let mut filter = TaskFilter { limit: Some(1_000), ..TaskFilter::default() };
        let first = app.client.list_tasks(&filter).await.unwrap();
        assert!(first.items.len() < 150, "{} of 33 KiB each are one page", first.items.len());
        let mut ids: Vec<_> = first.items.iter().map(|task| task.id).collect();
        filter.cursor = first.next_cursor;
        let second = app.client.list_tasks(&filter).await.unwrap();
        assert_eq!(second.next_cursor, None);
        ids.extend(second.items.iter().map(|task| task.id));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 150, "none is left out, none is there twice");
    }

    async fn a_batch_is_read_no_further_than_it_may_be_long(app: App) {
        let app = app.start();
        let labels = vec![r#""k":"v""#; 200_000].join(",");
        let body = format!(r#"{{"tasks":[{{"task_path":"a","labels":{{{labels}}}}}]}}"#);
        let answer = app.post("/tasks/batch", body).await;
        assert_eq!(answer.problem(), "422 invalid_field /tasks/0/labels");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        let (what, column) = detail.rsplit_once(' ').unwrap();
        assert_eq!(what, "too many entries: at most 32 at line 1 column");
        assert!(column.parse::<usize>().unwrap() < 500, "{detail}");
    }
}

#[tokio::test]
async fn room_that_is_too_little_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let refused = binary()
        .args(["serve", "--bind", "127.0.0.1:0"])
        .env("NIGHTSHIFT_PAYLOAD_MEMORY_MIB", "100")
        .current_dir(folder.path())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("payload_memory_mib"), "{said}");
}
