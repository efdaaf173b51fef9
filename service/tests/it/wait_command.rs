//! `nightshift enqueue --wait` and its like: whoever waits knows for what, and why.

use std::process::Stdio;

use nightshift_client::{
    TaskFilter,
    types::{ExecutorChange, TaskStatus},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr},
};
use uuid::Uuid;

use crate::support::{
    app::{Builder, TestApp, value},
    process::{binary, signal},
    soon,
};

/// A command that waits, and what it says meanwhile.
struct Waiting {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Waiting {
    fn start(app: &TestApp, arguments: &[&str]) -> Self {
        let mut command = binary();
        command.args(["--server", &app.server, "enqueue"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        soon("a line", self.lines.next_line()).await.unwrap().unwrap()
    }

    async fn id(&mut self) -> Uuid {
        let line = self.line().await;
        line.strip_prefix("enqueued ").unwrap_or_else(|| panic!("{line}")).parse().unwrap()
    }

    /// Exit status and standard output.
    async fn exited(self) -> (Option<i32>, String) {
        let output = soon("the end of a command", self.child.wait_with_output()).await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }
}

async fn run(app: &TestApp, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = binary();
    command.args(["--server", &app.server]).args(arguments);
    let output = soon("the end of a command", command.output()).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_told_the_id_and_each_reason_and_ctrl_c_leaves_the_task() {
    let app = Builder::sqlite().start();
    let mut waiting = Waiting::start(&app, &["a.b", "--wait"]);
    let id = waiting.id().await;
    let why = waiting.line().await;
    assert!(why.starts_with("it waits: no executor serves"), "{why}");
    let _worker = app.register_workers("tom", |_| {}).await;
    let paused = ExecutorChange { paused: Some(true), ..ExecutorChange::default() };
    app.client.update_executor("tom", &paused).await.unwrap();
    // Registered and not yet paused, it may be told of, too.
    while !waiting.line().await.contains("paused") {}
    signal(&waiting.child, "INT");
    // A second reason, that no worker asks, may stand before it.
    let mut last = waiting.line().await;
    while last.starts_with("it waits: ") {
        last = waiting.line().await;
    }
    assert!(last.starts_with("the task goes on: "), "{last}");
    assert!(last.contains(&format!("`nightshift cancel {id}` cancels it")), "{last}");
    assert_eq!(waiting.exited().await, (Some(130), String::new()));
    assert_eq!(app.task(id).await.status, TaskStatus::Ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_may_have_an_end() {
    let app = Builder::sqlite().start();
    let worker = app.register_workers("tom", |_| {}).await;
    let mut waiting = Waiting::start(&app, &["a.b", "--wait", "1s"]);
    let id = waiting.id().await.to_string();
    let last = loop {
        let line = waiting.line().await;
        if !line.starts_with("it waits: ") {
            break line;
        }
    };
    assert!(last.starts_with("the task has not ended within 1s, and goes on: "), "{last}");
    assert_eq!(waiting.exited().await.0, Some(3));
    for command in ["get", "result"] {
        assert_eq!(run(&app, &[command, &id, "--wait", "100ms"]).await.0, Some(3));
    }
    worker.succeed(&worker.next().await).await;
    for wait in ["5m", "300"] {
        assert_eq!(run(&app, &["get", &id, "--wait", wait]).await.0, Some(0));
    }
    let mut waiting = Waiting::start(&app, &["a.c", "--wait", "1h"]);
    waiting.id().await;
    worker.finish(&worker.next().await, value("7")).await.unwrap();
    assert_eq!(waiting.exited().await, (Some(0), "7\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_time_is_no_silent_argument() {
    let app = Builder::sqlite().start();
    let (code, said) = run(&app, &["enqueue", "--wait", "a.b"]).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("is no duration, such as 90, 90s, 5m"), "{said}");
    let (code, _) = run(&app, &["enqueue", "a.b", "--timeout", "2m"]).await;
    assert_eq!(code, Some(0));
    let tasks = app.client.list_tasks(&TaskFilter::default()).await.unwrap();
    assert_eq!(tasks.items.len(), 1, "the first command has enqueued nothing");
    let timeout = app.task(tasks.items[0].id).await.timeout_seconds;
    assert!((timeout - 120.0).abs() < 1e-9, "{timeout}");
}
